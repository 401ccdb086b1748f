//! Compiles the constants that MPI defines as macros and `mpi::ffi` therefore lacks.
fn main() {
    let compiler = std::env::var("MPICC").unwrap_or_else(|_| "mpicc".to_owned());
    println!("cargo:rerun-if-env-changed=MPICC");
    println!("cargo:rerun-if-changed=shim/mpi_constants.c");
    cc::Build::new().compiler(compiler).file("shim/mpi_constants.c").compile("mpi_constants");
}
