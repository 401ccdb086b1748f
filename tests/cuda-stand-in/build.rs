//! Compiles the stand-in against the headers of libtorch. All of it is linked, as nothing in Rust calls it: what it
//! registers with libtorch, it registers when it is loaded.

use std::path::PathBuf;

const SOURCES: [&str; 10] = [
    "attention",
    "capture",
    "collectives",
    "counters",
    "device",
    "memory",
    "operations",
    "pinned",
    "scaled_product",
    "streams",
];

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    for variable in ["LIBTORCH", "LIBTORCH_INCLUDE", "LIBTORCH_LIB", "LIBTORCH_CXX11_ABI"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let folder = |variable, name| {
        std::env::var_os(variable)
            .or_else(|| std::env::var_os("LIBTORCH"))
            .map(|root| PathBuf::from(root).join(name))
    };
    let (Some(include), Some(lib)) = (folder("LIBTORCH_INCLUDE", "include"), folder("LIBTORCH_LIB", "lib"))
    else {
        println!("cargo::error=LIBTORCH names no libtorch; build with `make build`");
        return;
    };
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        // Compiling takes far longer than running.
        .opt_level(1)
        .debug(false)
        .include(include)
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .files(SOURCES.map(|name| format!("cpp/{name}.cpp")))
        .cargo_metadata(false)
        .compile("cuda_stand_in_parts");
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=static:+whole-archive,-bundle=cuda_stand_in_parts");
    for library in ["torch_cpu", "c10", "stdc++"] {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}
