//! Pixels against those of Pillow, by their SHA-256.

use super::*;
use crate::data::fixtures;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Compares every file of a folder with its manifest; returns how many there were.
fn compare_with_manifest(folder: &Path) -> usize {
    let manifest = fixtures::json(&folder.join("manifest.json"));
    let files = manifest["files"].as_object().or(manifest["images"].as_object()).or(manifest.as_object());
    let entries = files.expect("a table of files");
    let mut count = 0;
    let mut wrong = Vec::new();
    for (name, facts) in entries {
        if facts.get("bytes").is_none() {
            continue;
        }
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            wrong.push(format!("{name}: missing"));
            continue;
        };
        count += 1;
        let decoded = decode(&bytes);
        match (facts.get("rgb_sha256").and_then(Value::as_str), decoded) {
            (Some(expected), Ok(image)) => {
                let size = (u64::from(image.width), u64::from(image.height));
                if Some(size) != facts["width"].as_u64().zip(facts["height"].as_u64()) {
                    wrong.push(format!("{name}: size {size:?}, expected {facts}"));
                } else if hex(&Sha256::digest(&image.pixels)) != expected {
                    wrong.push(format!("{name}: other pixels"));
                }
            }
            (Some(_), Err(error)) => wrong.push(format!("{name}: {error}")),
            (None, Ok(_)) => wrong.push(format!("{name}: decoded, expected {}", facts["message"])),
            (None, Err(_)) => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 0, "no file in {}", folder.display());
    count
}

#[test]
fn kept_odd_images_are_pillows() {
    println!("odd images in the repository: {}", compare_with_manifest(&fixtures::kept("odd")));
}

#[test]
fn all_odd_images_are_pillows() {
    if let Some(folder) = fixtures::data("odd_images") {
        println!("odd images: {}", compare_with_manifest(&folder));
    }
}

#[test]
fn photos_are_pillows() {
    if let Some(folder) = fixtures::data("photos") {
        println!("photos: {}", compare_with_manifest(&folder));
    }
}
