//! Nothing that differs from what was written is taken for it.

use super::*;
use crate::run::checkpoint::manifest::{MANIFEST, Manifest, STATE, TENSORS};
use proptest::prelude::*;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use tempfile::TempDir;

const FILES: [&str; 3] = [MANIFEST, STATE, TENSORS];

fn one() -> (TempDir, PathBuf, CheckpointReader) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("00000010");
    store_with(folder.path(), retention(1, false), &[(10, Some(0.5))]);
    let reader = reader(folder.path());
    (folder, path, reader)
}

fn refusal(reader: &CheckpointReader, path: &Path) -> String {
    match reader.load_path::<State>(path) {
        Ok(_) => panic!("`{}` was taken for whole", path.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_flipped_byte_of_every_file_is_found() {
    let (_folder, path, reader) = one();
    for name in FILES {
        let file = path.join(name);
        let sound = fs::read(&file).unwrap();
        for at in 0..sound.len() {
            for mask in [1, 0x20, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] ^= mask;
                fs::write(&file, bytes).unwrap();
                assert!(reader.load_path::<State>(&path).is_err(), "byte {at} of {name}, mask {mask}");
                assert!(reader.verify(10).is_err(), "byte {at} of {name}, mask {mask}");
            }
        }
        fs::write(&file, sound).unwrap();
    }
    assert_eq!(reader.load::<State>(10).unwrap(), snapshot(10, 0));
}

#[test]
fn every_truncation_and_every_addition_is_found() {
    let (_folder, path, reader) = one();
    for name in FILES {
        let file = path.join(name);
        let sound = fs::read(&file).unwrap();
        for length in 0..sound.len() {
            fs::write(&file, &sound[..length]).unwrap();
            assert!(reader.load_path::<State>(&path).is_err(), "{length} bytes of {name}");
            assert!(reader.glance(10).is_err(), "{length} bytes of {name}");
        }
        for more in [&b"\n"[..], b" ", b"\0", &[0; 4096]] {
            fs::write(&file, [&sound[..], more].concat()).unwrap();
            assert!(reader.load_path::<State>(&path).is_err(), "{} bytes after {name}", more.len());
        }
        fs::write(&file, sound).unwrap();
    }
    assert_eq!(reader.load::<State>(10).unwrap(), snapshot(10, 0));
}

#[test]
fn a_missing_and_an_extra_file_are_found() {
    let (_folder, path, reader) = one();
    for name in FILES {
        let file = path.join(name);
        let aside = path.with_file_name("aside");
        fs::rename(&file, &aside).unwrap();
        assert!(
            refusal(&reader, &path)
                .contains(&format!("expected the files {MANIFEST}, {STATE} and {TENSORS}"))
        );
        fs::rename(&aside, &file).unwrap();
    }
    for extra in ["more", ".hidden", "manifest.json~"] {
        fs::write(path.join(extra), b"").unwrap();
        assert!(refusal(&reader, &path).contains(extra));
        fs::remove_file(path.join(extra)).unwrap();
    }
    fs::create_dir(path.join("folder")).unwrap();
    assert!(refusal(&reader, &path).contains("folder"));
}

#[test]
fn a_folder_renamed_to_another_step_is_found() {
    let (folder, path, reader) = one();
    let renamed = folder.path().join("00000011");
    fs::rename(&path, &renamed).unwrap();
    let refusal = refusal(&reader, &renamed);
    assert!(
        refusal.ends_with("its manifest is that of step 10; the folder was renamed\nhint: use an older one"),
        "{refusal}"
    );
    assert!(reader.newest::<State>().is_err());
}

#[test]
fn files_of_two_checkpoints_do_not_mix() {
    let (folder, path, reader) = one();
    let other = tempfile::tempdir().unwrap();
    let mut store = store_with(other.path(), retention(1, false), &[]);
    store.write(&snapshot(10, 1), None).unwrap();
    for name in FILES {
        let sound = fs::read(path.join(name)).unwrap();
        fs::copy(other.path().join("00000010").join(name), path.join(name)).unwrap();
        assert!(reader.load::<State>(10).is_err(), "{name} of another");
        fs::write(path.join(name), sound).unwrap();
    }
    drop(folder);
}

#[test]
fn links_pipes_and_folders_in_the_place_of_files_are_refused_without_waiting() {
    let (_folder, path, reader) = one();
    for name in FILES {
        let file = path.join(name);
        let aside = path.with_file_name("aside");
        fs::rename(&file, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &file).unwrap();
        refusal(&reader, &path);
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refusal(&reader, &path);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        refusal(&reader, &path);
        fs::remove_dir(&file).unwrap();
        fs::rename(&aside, &file).unwrap();
    }
    fs::rename(&path, path.with_file_name("aside")).unwrap();
    fs::write(&path, b"no folder").unwrap();
    assert!(refusal(&reader, &path).contains("it is not a folder"));
    fs::remove_file(&path).unwrap();
    refusal(&reader, &path);
}

#[test]
fn a_length_that_is_only_claimed_allocates_nothing() {
    let (_folder, path, reader) = one();
    let file = path.join(TENSORS);
    fs::File::options().write(true).open(&file).unwrap().set_len(1 << 42).unwrap();
    assert!(refusal(&reader, &path).contains("expected "));
    // A manifest with a sound checksum that claims as much for a file that is short.
    let short = fs::read(file.with_file_name(STATE)).unwrap();
    fs::write(&file, short).unwrap();
    let text = fs::read(path.join(MANIFEST)).unwrap();
    let mut manifest = Manifest::decode(&text, &path).unwrap();
    manifest.files.get_mut(TENSORS).unwrap().size = u64::MAX;
    fs::write(path.join(MANIFEST), manifest.encode().unwrap()).unwrap();
    assert!(refusal(&reader, &path).contains("expected 18446744073709551615 bytes"));
    // A safetensors header that claims as much, with checksums that agree.
    let mut hostile = (u64::MAX - 8).to_le_bytes().to_vec();
    hostile.extend_from_slice(b"{}");
    reseal(&path, TENSORS, &hostile);
    assert!(refusal(&reader, &path).contains("is damaged"));
}

#[test]
fn another_format_is_named_as_such() {
    let (_folder, path, reader) = one();
    let text = fs::read(path.join(MANIFEST)).unwrap();
    let mut value: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
    value.remove("checksum");
    value["format"] = 2.into();
    value.insert("more".into(), true.into());
    fs::write(path.join(MANIFEST), sealed::seal(&value).unwrap()).unwrap();
    let refusal = refusal(&reader, &path);
    assert!(
        refusal.ends_with(
            "is of another version of this program: expected format 1, found 2; it is kept\nhint: use that version, or name an \
             older checkpoint with --resume PATH and another --output"
        ),
        "{refusal}"
    );
}

/// Puts `content` in the place of a file, with a manifest that agrees.
fn reseal(path: &Path, name: &str, content: &[u8]) {
    use sha2::Digest;
    fs::write(path.join(name), content).unwrap();
    let tensors = fs::read(path.join(TENSORS)).unwrap();
    let state = fs::read(path.join(STATE)).unwrap();
    let entry = |bytes: &[u8]| manifest::ManifestEntry {
        size: bytes.len() as u64,
        sha256: protocol::numbers::hex(&sha2::Sha256::digest(bytes)),
    };
    let manifest = Manifest::new(10, None, entry(&tensors), entry(&state));
    fs::write(path.join(MANIFEST), manifest.encode().unwrap()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn garbage_in_any_file_is_an_error(which in 0_usize..3, garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_folder, path, reader) = one();
        fs::write(path.join(FILES[which]), &garbage).unwrap();
        prop_assert!(reader.load_path::<State>(&path).is_err());
        prop_assert!(reader.newest::<State>().is_err());
        // With checksums that agree, it is still no checkpoint.
        if which > 0 {
            reseal(&path, FILES[which], &garbage);
            prop_assert!(reader.load_path::<State>(&path).is_err());
        }
        fs::write(path.join(MANIFEST), sealed::seal(&serde_json::json!({"format": 1, "x": garbage})).unwrap()).unwrap();
        prop_assert!(reader.load_path::<State>(&path).is_err());
    }

    #[test]
    fn any_name_in_the_folder_is_survived(name in "[^/\0]{1,40}", file in any::<bool>()) {
        prop_assume!(name != "." && name != ".." && name.len() < 200);
        let (folder, _, reader) = one();
        let path = folder.path().join(std::ffi::OsStr::from_bytes(name.as_bytes()));
        prop_assume!(!path.exists());
        if file { fs::write(&path, b"?").unwrap() } else { fs::create_dir(&path).unwrap() }
        prop_assert_eq!(reader.newest::<State>().unwrap().unwrap().snapshot, snapshot(10, 0));
        store_with(folder.path(), retention(1, true), &[(11, None)]);
    }
}
