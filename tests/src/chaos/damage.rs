//! Damage to checkpoints on disk.

use super::fault::DamageKind;
use crate::draw::Draw;
use std::fs;
use std::io;
use std::path::Path;

/// Files of a checkpoint.
const FILES: [&str; 3] = ["manifest.json", "state.json", "tensors.safetensors"];
/// Number of bytes that a torn write leaves as zeros.
const SECTOR: usize = 512;

/// Damages a file of the checkpoint in `path`.
pub fn damage(path: &Path, kind: DamageKind, number: u64) -> io::Result<()> {
    let mut draw = Draw::of_case(number, 0);
    let file = path.join(draw.one_of(&FILES));
    if kind == DamageKind::Missing {
        return fs::remove_file(file);
    }
    let intact = fs::read(&file)?;
    let mut bytes = intact.clone();
    let at = draw.below(intact.len() as u64) as usize;
    match kind {
        DamageKind::Cut => bytes.truncate(at),
        DamageKind::Torn => bytes[at..intact.len().min(at + SECTOR)].fill(0),
        DamageKind::Flip | DamageKind::Missing => {}
    }
    if bytes == intact {
        bytes[at] ^= 1 << draw.below(8);
    }
    fs::write(file, bytes)
}

/// Copies a folder recursively.
pub fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
