//! A small data set of real JPEG files in a long tail, with lists.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use turbojpeg::{Image, PixelFormat, Subsamp};

/// Training images of each class.
const TRAIN: [usize; 8] = [30, 20, 14, 10, 8, 6, 5, 3];
/// Test images of each class.
const TEST: usize = 5;
/// File of class names.
const NAMES: &str = "names.txt";
/// Pixels.
const SIDE: usize = 40;

/// Where the data set lies.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// The folder.
    pub root: PathBuf,
}

impl DataSet {
    /// Draws the pictures and writes files and lists.
    pub fn write(root: &Path) -> io::Result<Self> {
        let data = Self { root: root.to_path_buf() };
        for (split, counts) in [("train", TRAIN), ("test", [TEST; 8])] {
            let mut list = String::new();
            fs::create_dir_all(root.join(split))?;
            for (class, count) in counts.into_iter().enumerate() {
                for number in 0..count {
                    let name = format!("{split}/{class}-{number}.jpg");
                    let salt = if split == "train" { 0 } else { 1000 };
                    fs::write(root.join(&name), picture(class, number + salt)?)?;
                    let _ = writeln!(list, "{name} {class}");
                }
            }
            fs::write(root.join(format!("{split}.txt")), list)?;
        }
        let colours =
            ["red", "green", "blue", "yellow", "red square", "green square", "blue square", "yellow square"];
        fs::write(root.join(NAMES), colours.join("\n"))?;
        Ok(data)
    }

    /// Another data set of the same files, of which some may then go.
    pub fn link(&self, root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        fs::copy(self.root.join(NAMES), root.join(NAMES))?;
        for split in ["train", "test"] {
            fs::create_dir_all(root.join(split))?;
            fs::copy(self.root.join(format!("{split}.txt")), root.join(format!("{split}.txt")))?;
            for entry in fs::read_dir(self.root.join(split))? {
                let entry = entry?;
                fs::hard_link(entry.path(), root.join(split).join(entry.file_name()))?;
            }
        }
        Ok(Self { root: root.to_path_buf() })
    }

    /// An image, by any number: mostly of the training set.
    pub fn file(&self, number: u64) -> PathBuf {
        let mut number = number as usize % (TRAIN.iter().sum::<usize>() + TEST);
        for (class, count) in TRAIN.into_iter().enumerate() {
            if number < count {
                return self.root.join(format!("train/{class}-{number}.jpg"));
            }
            number -= count;
        }
        self.root.join(format!("test/0-{number}.jpg"))
    }

    /// What the trainer is told about it.
    pub fn settings(&self) -> Vec<String> {
        let below = |key: &str, name: &str| format!("data.{key}={}", self.root.join(name).display());
        vec![
            "data.layout=lists".to_owned(),
            below("train_list", "train.txt"),
            below("test_list", "test.txt"),
            below("class_names", NAMES),
            format!("data.root={}", self.root.display()),
        ]
    }
}

/// Stripes whose direction and colour tell the class, with noise.
fn picture(class: usize, number: usize) -> io::Result<Vec<u8>> {
    let mut noise = super::draw::Draw::of_case(class as u64, number as u64);
    let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
    for at in 0..SIDE * SIDE {
        let (x, y) = (at % SIDE, at / SIDE);
        let stripe = (x * (class % 3 + 1) + y * (class / 3 + 1) + number) / 6 % 2;
        for channel in 0..3 {
            let colour = 60 + 90 * stripe + 20 * ((class >> channel) & 1);
            pixels.push((colour as u64 + noise.below(60)) as u8);
        }
    }
    let image = Image {
        pixels: pixels.as_slice(),
        width: SIDE,
        pitch: SIDE * 3,
        height: SIDE,
        format: PixelFormat::RGB,
    };
    let jpeg = turbojpeg::compress(image, 90, Subsamp::None).map_err(io::Error::other)?;
    Ok(jpeg.to_vec())
}
