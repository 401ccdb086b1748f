//! One number for a whole data set.

use super::{DataSet, Split};
use sha2::{Digest, Sha256};
use std::fmt::Write;

pub(super) fn of(set: &DataSet) -> String {
    let mut hash = Sha256::new();
    hash.update((set.class_names.len() as u64).to_le_bytes());
    for name in &set.class_names {
        add_text(&mut hash, name);
    }
    add_split(&mut hash, &set.train);
    add_split(&mut hash, &set.test);
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn add_split(hash: &mut Sha256, split: &Split) {
    hash.update((split.len() as u64).to_le_bytes());
    for (index, label) in split.labels().iter().enumerate() {
        hash.update(label.to_le_bytes());
        add_text(hash, &split.name(index));
    }
}

/// With its length first, so that no two lists of texts hash alike.
fn add_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}
