//! The libraries that this process uses, as they report themselves: for diagnosis, before MPI is started.

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};

unsafe extern "C" {
    fn collectives_libtorch_config(text: *mut c_char, length: usize) -> c_int;
}

/// NCCL as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NcclLibrary {
    /// Its file, or the name by which the loader knew it.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
}

/// What the MPI library says of its version. MPI need not be started.
pub fn mpi_version() -> String {
    let version = mpi::environment::library_version().unwrap_or_else(|_| "unknown".to_owned());
    // Some libraries count the zero byte at the end.
    version.trim_end_matches('\0').trim().to_owned()
}

/// Version of libtorch, such as `2.11.0`.
///
/// Open libtorch's CUDA part first, if there is one: libtorch decides here whether it has CUDA, and keeps to it.
pub fn libtorch_version() -> Result<String, String> {
    let mut text = vec![0u8; 1 << 14];
    // SAFETY: the shim writes at most the given length, ends with a zero byte, and catches every exception.
    let failed = unsafe { collectives_libtorch_config(text.as_mut_ptr().cast(), text.len()) } != 0;
    let text = CStr::from_bytes_until_nul(&text).unwrap_or(c"").to_string_lossy();
    let version = (!failed).then(|| version_in(&text)).flatten();
    version.ok_or_else(|| format!("libtorch does not tell its version: {}", text.trim()))
}

/// `..., TORCH_VERSION=2.11.0, ...`
fn version_in(config: &str) -> Option<String> {
    let words = config.split([',', ' ', '\n']);
    words.map(str::trim).find_map(|word| word.strip_prefix("TORCH_VERSION=")).map(str::to_owned)
}

/// Finds and loads NCCL as [`NcclGroup`](crate::NcclGroup) does.
pub fn nccl() -> Result<NcclLibrary, String> {
    let library = nccl_rs::Library::open().map_err(|error| error.to_string())?;
    let version = library.version().map_err(|error| error.to_string())?.to_string();
    let path = library.path();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(NcclLibrary { path: loaded_file(name).unwrap_or_else(|| path.to_owned()), version })
}

/// The file of a library that is loaded into this process; its name begins with `name`.
pub fn loaded_file(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let files = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let is_it = |path: &&Path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    files.into_iter().find(is_it).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_this_process_are_named_with_their_versions() {
        let version = libtorch_version().unwrap();
        assert!(version.starts_with(|letter: char| letter.is_ascii_digit()), "{version}");
        assert!(loaded_file("libtorch_cpu.so").unwrap().is_file());
        assert!(!mpi_version().is_empty());
        assert!(loaded_file("libmpi").unwrap().is_file());
        assert_eq!(loaded_file("libof_no_machine"), None);
    }

    #[test]
    fn the_version_is_found_among_the_settings_of_the_build() {
        let config =
            "PyTorch built with:\n  - Build settings: BLAS_INFO=mkl, TORCH_VERSION=2.11.0, USE_CUDA=0, \n";
        assert_eq!(version_in(config).as_deref(), Some("2.11.0"));
        assert_eq!(version_in("nothing"), None);
    }
}
