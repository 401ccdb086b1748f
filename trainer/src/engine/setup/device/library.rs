//! The CUDA part of libtorch, `libtorch_cuda.so`: half a gigabyte, opened by the commands that may compute on a GPU.

use collectives::installed::loaded_file;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// File name of the CUDA part.
pub(super) const NAME: &str = "libtorch_cuda.so";

/// State of the CUDA part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CudaLibrary {
    /// It is loaded.
    Opened,
    /// The file is not in the folder of the CPU part: this is a CPU build of libtorch.
    Absent(PathBuf),
    /// It does not load, for this reason.
    Broken(String),
}

/// Opens the CUDA part if it is in the folder of the CPU part, which registers the CUDA backend. A process opens it once.
pub(super) fn open() -> CudaLibrary {
    static STATE: OnceLock<CudaLibrary> = OnceLock::new();
    STATE.get_or_init(|| open_at(&path())).clone()
}

/// Where the CUDA part belongs: in the folder of the CPU part.
pub(super) fn path() -> PathBuf {
    let cpu_part = loaded_file("libtorch_cpu.so").unwrap_or_default();
    cpu_part.parent().unwrap_or(Path::new("")).join(NAME)
}

fn open_at(path: &Path) -> CudaLibrary {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    if !path.exists() {
        return CudaLibrary::Absent(path.to_owned());
    }
    // SAFETY: libtorch's own library; its initialisers register the CUDA backend and nothing else.
    match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            // Closing it would leave dangling registrations.
            std::mem::forget(library);
            CudaLibrary::Opened
        }
        Err(error) => {
            use std::error::Error;
            // The loader's own message is the source of libloading's.
            CudaLibrary::Broken(error.source().map_or_else(|| error.to_string(), ToString::to_string))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_file_and_one_that_is_no_library_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert_eq!(open_at(&path), CudaLibrary::Absent(path.clone()));
        std::fs::write(&path, "no library").unwrap();
        let CudaLibrary::Broken(reason) = open_at(&path) else { panic!("a text is no library") };
        assert!(reason.contains(NAME), "{reason}");
    }
}
