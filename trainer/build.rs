//! Lists the presets below `configs`, so that the program embeds each file, and compiles the shims to libtorch's
//! C++ interface.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Calls of libtorch's C++ interface.
const SHIMS: [&str; 5] =
    ["shim/allocator.cpp", "shim/attention.cpp", "shim/backward.cpp", "shim/cuda_graph.cpp", "shim/gpu.cpp"];
/// The folder of `caught.h`, which shims of both crates include.
const SHARED: &str = "../collectives/shim";

/// Variants of `PresetKind`, and the folder of each.
const KINDS: [(&str, &str); 3] = [("Data", "data"), ("Model", "model"), ("Method", "method")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    compile_shims();
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

fn compile_shims() {
    for shim in SHIMS.iter().chain(&[SHARED]) {
        println!("cargo::rerun-if-changed={shim}");
    }
    for variable in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(libtorch_include())
        .include(SHARED)
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .files(SHIMS)
        .compile("trainer_shims");
}

/// Header folder of the libtorch that torch-sys found.
fn libtorch_include() -> PathBuf {
    let root = env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let beside = || {
        let lib = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
        lib.and_then(|lib| Some(lib.parent()?.to_owned()))
    };
    root.or_else(beside).unwrap_or_default().join("include")
}
