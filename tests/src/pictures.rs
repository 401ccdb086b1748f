//! A data set of small images that a test writes; a read of one of them can be made to hang.

use nix::sys::stat::Mode;
use std::fs;
use std::path::{Path, PathBuf};

/// Lists over a folder of images: `root/own.toml` is the preset.
pub struct Pictures {
    root: PathBuf,
}

/// Number of images that occur in many lines.
const COMMON: usize = 23;
/// Number of lines per image: a run then takes longer than the metrics writer buffers its first lines.
const LINES: usize = 100;
/// Index of the single line of the last image in the training list.
pub const SINGLE_LINE: usize = COMMON * LINES;

impl Pictures {
    /// Creates two classes; the image of the last line of the training list occurs only there.
    pub fn create(root: &Path) -> Self {
        fs::create_dir_all(root).expect("the folder can be made");
        for picture in 0..=COMMON {
            fs::write(root.join(name(picture)), bitmap(picture as u8)).expect("the picture can be written");
        }
        let line = |picture: usize| format!("{} {}\n", name(picture), picture % 2);
        let common: String = (0..COMMON * LINES).map(|line_of| line(line_of % COMMON)).collect();
        let tests: String = (0..4).map(line).collect();
        let preset = "[data]\nlayout = \"lists\"\nroot = \".\"\ntrain_list = \"train.txt\"\ntest_list = \"test.txt\"\nclass_names = \"names.txt\"\n";
        let files = [
            ("train.txt", common + &line(COMMON)),
            ("test.txt", tests),
            ("names.txt", "even\nodd\n".to_owned()),
            ("own.toml", preset.to_owned()),
        ];
        for (file, text) in files {
            fs::write(root.join(file), text).expect("the file can be written");
        }
        Self { root: root.to_owned() }
    }

    /// The preset.
    pub fn preset(&self) -> PathBuf {
        self.root.join("own.toml")
    }

    /// The image of the last line.
    pub fn single(&self) -> PathBuf {
        self.root.join(name(COMMON))
    }

    /// Makes every read of the image of the last line hang.
    pub fn block_reads(&self) {
        let pipe = self.root.join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe can be made");
        fs::rename(pipe, self.single()).expect("the picture can be replaced");
    }

    /// Makes the image of the last line readable again.
    pub fn unblock_reads(&self) {
        let picture = self.root.join("picture");
        fs::write(&picture, bitmap(COMMON as u8)).expect("the picture can be written");
        fs::rename(picture, self.single()).expect("the picture can be replaced");
    }
}

fn name(picture: usize) -> String {
    format!("{picture}.bmp")
}

/// An image of 8 x 8 pixels with 24 bits each, different for each number.
fn bitmap(number: u8) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend(
        [246_u32, 0, 54, 40, 8, 8, 0x0018_0001, 0, 192, 2835, 2835, 0, 0]
            .iter()
            .flat_map(|n| n.to_le_bytes()),
    );
    bytes.extend((0..192_u8).map(|at| at.wrapping_mul(number.wrapping_add(3))));
    bytes
}
