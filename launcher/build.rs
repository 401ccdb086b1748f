//! Lists the presets below `configs`, so that the program embeds each file.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").canonicalize()?;
    let mut list = String::from("&[\n");
    for folder in [".", "data", "model", "method"] {
        let folder = configs.join(folder).canonicalize()?;
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files =
            fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "toml")) {
            let name = file.strip_prefix(&configs)?.to_string_lossy().into_owned();
            let path = file.to_string_lossy();
            writeln!(list, "({name:?}, include_str!({path:?})),")?;
        }
    }
    list.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("presets.rs"), list)?;
    Ok(())
}
