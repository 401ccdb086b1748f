//! Compiles the C and C++ shims: MPI constants that are macros, and a few calls of libtorch's C++ interface.

use std::path::PathBuf;

/// Calls of libtorch's C++ interface.
const LIBTORCH_SHIMS: [&str; 3] =
    ["shim/current_stream.cpp", "shim/libtorch_config.cpp", "shim/set_device.cpp"];

fn main() {
    let compiler = std::env::var("MPICC").unwrap_or_else(|_| "mpicc".to_owned());
    println!("cargo:rerun-if-env-changed=MPICC");
    println!("cargo:rerun-if-changed=shim/mpi_constants.c");
    cc::Build::new().compiler(compiler).file("shim/mpi_constants.c").compile("mpi_constants");

    println!("cargo:rerun-if-changed=shim/caught.h");
    for shim in LIBTORCH_SHIMS {
        println!("cargo:rerun-if-changed={shim}");
    }
    for variable in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(libtorch_include())
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .files(LIBTORCH_SHIMS)
        .compile("libtorch_shims");
}

/// Header folder of the libtorch that torch-sys found.
fn libtorch_include() -> PathBuf {
    let root = std::env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let beside = || {
        let lib = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
        lib.and_then(|lib| Some(lib.parent()?.to_owned()))
    };
    root.or_else(beside).unwrap_or_default().join("include")
}
