//! Files that are too large or no files are refused before anything is read of them.

use super::*;
use crate::data::RgbImage;
use crate::data::source::DataSet;
use crate::data::source::tests::{dot, folder, lists};
use std::os::unix::fs::symlink;

/// Reads and decodes a file.
fn read_image(root: &Path, name: &str) -> Result<RgbImage, DataError> {
    let mut image = None;
    read_stored(root, name, &mut |stored| {
        let Stored::Encoded(bytes) = stored else { unreachable!("files hold encoded images") };
        image = Some(decode::decode(bytes));
    })?;
    image.expect("its bytes").map_err(|error| DataError::image(name.to_owned(), error))
}

#[test]
fn huge_files_and_devices_are_refused() {
    let root = folder(&[("small.bmp", &dot(1, 2, 3))]);
    let at = |name: &str| root.path().join(name);
    File::create(at("huge.png"))
        .and_then(|file| file.set_len(MAX_FILE_BYTES + 1))
        .expect("a file with a hole");
    symlink("/dev/zero", at("zero.png")).expect("a link");
    let message = |name: &str| read_image(root.path(), name).expect_err("a refusal").to_string();
    assert_eq!(message("huge.png"), "image `huge.png`: has 1073741825 bytes; at most 1073741824 are read");
    assert_eq!(message("zero.png"), "image `zero.png`: is not a regular file");
    read_image(root.path(), "small.bmp").expect("an image");
}

#[test]
fn a_pipe_is_read_and_never_looked_at() {
    let root = folder(&[]);
    let pipe = root.path().join("pipe.bmp");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for looked_at in [probe(&pipe).err(), sample(&pipe).err()] {
        assert!(matches!(looked_at, Some(ImageFault::NotAFile)), "{looked_at:?}");
    }
    let writer = std::thread::spawn(move || std::fs::write(pipe, dot(1, 2, 3)));
    read_image(root.path(), "pipe.bmp").expect("an image");
    writer.join().expect("a writer").expect("all is written");
}

#[test]
fn huge_members_of_a_tar_are_refused() {
    let root = folder(&[("train.txt", b"huge.png 0\n"), ("test.txt", b"huge.png 0\n")]);
    let size = 40 << 30;
    let mut header = ::tar::Header::new_gnu();
    header.set_path("huge.png").expect("a name");
    header.set_size(size);
    header.set_cksum();
    let path = root.path().join("i.tar");
    std::fs::write(&path, header.as_bytes()).expect("a tar");
    let file = File::options().write(true).open(&path).expect("the tar");
    file.set_len(512 + size + 1024).expect("a hole");
    let spec = crate::data::source::DataSpec { images: Some("i.tar".into()), ..lists(root.path()) };
    let set = DataSet::open(&spec).expect("a data set");
    let error = set.train.read(0).expect_err("a refusal");
    assert!(error.is_image_failure());
    assert_eq!(error.to_string(), "image `huge.png`: has 42949672960 bytes; at most 1073741824 are read");
    set.train.sample(0).expect("its first and last bytes");
}

#[test]
fn a_place_is_the_same_for_each_spelling() {
    let root = Path::new("/data");
    for name in ["a/b.jpg", "./a/b.jpg", "a//b.jpg", "a/x/../b.jpg", "/data/a/./b.jpg", "../data/a/b.jpg"] {
        assert_eq!(place(root, name), "/data/a/b.jpg", "{name}");
    }
    assert_ne!(place(root, "a/B.jpg"), "/data/a/b.jpg");
}
