//! A small long-tailed data set of real JPEG files, with lists.

use crate::trainer;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use turbojpeg::{Image, PixelFormat, Subsamp};

/// Number of classes.
pub const CLASSES: usize = 8;
/// Class names, which are in the vocabulary of the demo.
const COLOURS: [&str; CLASSES] =
    ["red", "green", "blue", "yellow", "red square", "green square", "blue square", "yellow square"];
/// File of class names.
const NAMES: &str = "names.txt";
/// Image size in pixels.
const SIDE: usize = 40;

/// Training images of each class, and test images per class, of the [`small`] data set.
const SMALL: ([usize; CLASSES], usize) = ([12, 8, 6, 4, 3, 3, 3, 2], 3);

/// Number of training images of the [`small`] data set.
pub const SMALL_TRAINING: u64 = 41;

/// Writes a data set with 41 training and 24 test images, on which a run takes little more than the start of its
/// processes. Returns the file for `--data`.
pub fn small(root: &Path) -> io::Result<PathBuf> {
    let preset = root.join("stripes.toml");
    fs::write(&preset, StripedDataSet::write(root, SMALL.0, SMALL.1)?.preset()).map(|()| preset)
}

/// The [`small`] data set beside a run folder, written on first use.
pub fn data_beside(run: &Path) -> PathBuf {
    let root = run.parent().expect("a run folder has a parent");
    let preset = root.join("stripes.toml");
    if preset.exists() { preset } else { small(root).expect("the data set can be written") }
}

/// A short run on the [`small`] data set beside its folder, on one thread a rank.
pub fn short_run(ranks: usize, output: &Path, settings: &[&str]) -> Command {
    let mut command = trainer(ranks);
    let data = data_beside(output);
    command.args(["train", "-q", "-m", "demo", "--set", "train.threads=1", "-d"]).arg(data);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.arg("--output").arg(output);
    command
}

/// The trained tensors of a finished run.
pub fn final_bytes(run: &Path) -> Vec<u8> {
    fs::read(run.join("final.safetensors")).expect("a finished run has its trained tensors")
}

/// The data set on disk.
#[derive(Clone, Debug)]
pub struct StripedDataSet {
    /// The folder.
    pub root: PathBuf,
    train: [usize; CLASSES],
    tests: usize,
}

impl StripedDataSet {
    /// Draws the images and writes files and lists: `train` training images of each class, and `tests` test images
    /// per class.
    pub fn write(root: &Path, train: [usize; CLASSES], tests: usize) -> io::Result<Self> {
        for (split, counts) in [("train", train), ("test", [tests; CLASSES])] {
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
        fs::write(root.join(NAMES), COLOURS.join("\n"))?;
        Ok(Self { root: root.to_path_buf(), train, tests })
    }

    /// Another data set with hard links to the same files, of which a test can remove some.
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
        Ok(Self { root: root.to_path_buf(), ..self.clone() })
    }

    /// Selects an image by any number, usually of the training set.
    pub fn file(&self, number: u64) -> PathBuf {
        let mut number = number as usize % (self.train.iter().sum::<usize>() + self.tests);
        for (class, count) in self.train.into_iter().enumerate() {
            if number < count {
                return self.root.join(format!("train/{class}-{number}.jpg"));
            }
            number -= count;
        }
        self.root.join(format!("test/0-{number}.jpg"))
    }

    /// Class names, in label order.
    pub const fn class_names(&self) -> [&'static str; CLASSES] {
        COLOURS
    }

    /// Settings of the trainer for this data set.
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

    /// The preset, for a file in its folder.
    pub fn preset(&self) -> String {
        let [train, test] = ["train.txt", "test.txt"];
        format!(
            "[data]\nlayout = \"lists\"\nroot = \".\"\ntrain_list = \"{train}\"\ntest_list = \"{test}\"\nclass_names = \"{NAMES}\"\n"
        )
    }
}

/// Stripes with noise; direction and colour depend on the class.
fn picture(class: usize, number: usize) -> io::Result<Vec<u8>> {
    let mut noise = crate::draw::Draw::of_case(class as u64, number as u64);
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
