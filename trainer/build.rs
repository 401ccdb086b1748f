//! Lists the presets below `configs`, so that the program embeds each file.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

/// Variants of `PresetKind`, and the folder of each.
const KINDS: [(&str, &str); 3] = [("Data", "data"), ("Model", "model"), ("Method", "method")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").canonicalize()?;
    let mut list = String::from("&[\n");
    for (kind, folder) in KINDS {
        let folder = configs.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files =
            fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "toml")) {
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let path = file.to_string_lossy();
            writeln!(list, "(PresetKind::{kind}, {name:?}, include_str!({path:?})),")?;
        }
    }
    list.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("presets.rs"), list)?;
    Ok(())
}
