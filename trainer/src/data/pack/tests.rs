//! Packed equals unpacked, in order, labels and pixels, after interruptions and with damage.

use super::super::source::{DataLayout, DataSet, DataSpec};
use super::*;
use crate::data::decode::RgbImage;
use crate::data::fixtures::noise;
use std::fs;
use std::sync::Mutex;

/// Class folders of JPEG files of several sizes, a broken one among them if asked.
fn unpacked(root: &Path, with_broken: bool) -> DataSet {
    for (half, count) in [("train", 7), ("test", 3)] {
        for number in 0..count {
            let folder = root.join(half).join(["ant", "bee"][number as usize % 2]);
            fs::create_dir_all(&folder).unwrap();
            let image = noise(40 + 9 * number, 60 - 5 * number);
            let (width, height) = (image.width as usize, image.height as usize);
            let pixels = image.pixels.as_slice();
            let image = turbojpeg::Image {
                pixels,
                width,
                pitch: width * 3,
                height,
                format: turbojpeg::PixelFormat::RGB,
            };
            let jpeg = turbojpeg::compress(image, 95, turbojpeg::Subsamp::None).unwrap();
            let cut = if with_broken && number == 1 { 10 } else { jpeg.len() };
            fs::write(folder.join(format!("{number}.jpg")), &jpeg[..cut]).unwrap();
        }
    }
    DataSet::open(&DataSpec { root: root.into(), ..DataSpec::default() }).unwrap()
}

fn options(form: PackForm) -> PackOptions {
    PackOptions { form, images_per_shard: 2, threads: 3, max_bad_images: 0 }
}

fn open(output: &Path) -> Result<DataSet, DataError> {
    DataSet::open(&DataSpec { root: output.into(), layout: DataLayout::Auto, ..DataSpec::default() })
}

fn images(split: &Split) -> Vec<Result<RgbImage, String>> {
    (0..split.len()).map(|index| split.read(index).map_err(|error| error.to_string())).collect()
}

#[test]
fn packed_equals_unpacked() {
    for form in [PackForm::Copied, PackForm::Raw { shorter_side: None }] {
        for with_broken in [false, true] {
            let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let set = unpacked(source.path(), with_broken);
            let count = Mutex::new(0);
            let options = PackOptions { max_bad_images: 2, ..options(form) };
            let packed = pack(&set, output.path(), options, &|more| *count.lock().unwrap() += more).unwrap();
            let from_pack = open(output.path()).unwrap();
            assert_eq!((packed.images, packed.shards, *count.lock().unwrap()), (10, 6, 10));
            assert_eq!(from_pack.fingerprint(), set.fingerprint());
            for (packed, set) in [(&from_pack.train, &set.train), (&from_pack.test, &set.test)] {
                assert_eq!(images(packed), images(set), "{form}");
            }
            let bad = if with_broken && form != PackForm::Copied { 2 } else { 0 };
            assert_eq!(packed.bad_images.len(), bad, "copied files are not decoded");
        }
    }
}

#[test]
fn reduced_images_have_the_shorter_side_and_small_ones_are_copied() {
    let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let set = unpacked(source.path(), false);
    for (form, name) in [
        (PackForm::Reduced { shorter_side: 36, quality: 90 }, "jpeg"),
        (PackForm::Raw { shorter_side: Some(36) }, "raw"),
    ] {
        let output = output.path().join(name);
        pack(&set, &output, options(form), &|_| ()).unwrap();
        let packed = open(&output).unwrap();
        let mut kept = 0;
        for (small, image) in images(&packed.train).into_iter().zip(images(&set.train)) {
            let (small, image) = (small.unwrap(), image.unwrap());
            let shorter = image.width.min(image.height);
            assert_eq!(small.width.min(small.height), shorter.min(36), "{name}");
            if shorter <= 36 {
                kept += 1;
                assert_eq!(small, image);
            }
        }
        assert!((1..7).contains(&kept));
    }
}

#[test]
fn an_interrupted_pack_continues_to_the_same_bytes() {
    let (source, whole, cut) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let set = unpacked(source.path(), false);
    let options = options(PackForm::Reduced { shorter_side: 32, quality: 90 });
    pack(&set, whole.path(), options, &|_| ()).unwrap();
    pack(&set, cut.path(), options, &|_| ()).unwrap();
    // As after a kill: no final manifest, a shard without index, half a shard, damage in a complete one.
    let mut manifest: Manifest =
        serde_json::from_slice(&fs::read(cut.path().join(MANIFEST)).unwrap()).unwrap();
    manifest.complete = false;
    fs::write(cut.path().join(MANIFEST), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
    let error = open(cut.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("it is not complete\nhint: run the same `lift-trainer pack` command again"),
        "{error}"
    );
    fs::remove_file(cut.path().join("train-000001.json")).unwrap();
    fs::remove_file(cut.path().join("train-000002.tar")).unwrap();
    fs::write(cut.path().join("train-000002.tar.part"), "half").unwrap();
    let damaged = cut.path().join("test-000000.tar");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[600] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let packed = pack(&set, cut.path(), PackOptions { threads: 1, ..options }, &|_| ()).unwrap();
    assert_eq!((packed.shards, packed.kept_shards), (6, 3));
    let mut names: Vec<_> =
        fs::read_dir(whole.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 14);
    for name in names {
        assert_eq!(
            fs::read(whole.path().join(&name)).unwrap(),
            fs::read(cut.path().join(&name)).unwrap(),
            "{name:?}"
        );
    }
}

#[test]
fn damage_is_found_by_the_checksum_of_the_image() {
    let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let set = unpacked(source.path(), false);
    pack(&set, output.path(), options(PackForm::Copied), &|_| ()).unwrap();
    let path = output.path().join("train-000000.tar");
    let mut bytes = fs::read(&path).unwrap();
    bytes[700] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let packed = open(output.path()).unwrap();
    let error = packed.train.read(0).unwrap_err().to_string();
    assert_eq!(error, "image `ant/0.jpg`: cannot be read (its bytes contradict the checksum in the index)");
    assert_eq!(packed.train.read(1).unwrap(), set.train.read(1).unwrap());
    fs::write(&path, &bytes[..1024]).unwrap();
    let error = open(output.path()).unwrap_err().to_string();
    assert!(
        error.contains("train-000000.tar`: expected ") && error.ends_with("found 1024\nhint: copy it again"),
        "{error}"
    );
}

#[test]
fn refusals_name_what_differs() {
    let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let set = unpacked(source.path(), true);
    let raw = options(PackForm::Raw { shorter_side: None });
    let refusal = |options| {
        let error = pack(&set, output.path(), options, &|_| ()).unwrap_err().to_string();
        error.replace(&output.path().display().to_string(), "OUT")
    };
    let error = refusal(raw);
    assert!(
        error.starts_with(
            "1 images cannot be packed, at most 0 are allowed (`data.max_bad_images`); the first is image `"
        ),
        "{error}"
    );
    let error = refusal(options(PackForm::Copied));
    let expected = "`OUT/pack.json` holds another packed set: expected the form copied, found raw\nhint: choose another `--output`, or \
                    remove the folder";
    assert_eq!(error, expected);
    fs::remove_dir_all(output.path()).unwrap();
    fs::create_dir(output.path()).unwrap();
    fs::write(output.path().join("thesis.tex"), "").unwrap();
    assert_eq!(refusal(raw), "`OUT` is not empty and holds no packed set\nhint: choose another `--output`");
}
