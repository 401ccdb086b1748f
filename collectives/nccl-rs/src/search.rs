//! Where a library lies on machines as they are: known to the loader, in a wheel, in a toolkit.

use crate::error::Error;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `RTLD_NOLOAD` of glibc: answer only for what is loaded already.
const RTLD_NOLOAD: i32 = 4;

/// A library to look for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LibraryRequest {
    pub(crate) library: &'static str,
    /// Variable that names the file and ends the search.
    pub(crate) variable: &'static str,
    /// File names, the best first.
    pub(crate) names: &'static [&'static str],
    /// Folders of wheels that hold it, below `site-packages/nvidia`.
    pub(crate) wheels: &'static [&'static str],
    pub(crate) remedy: &'static str,
}

/// A library that was loaded. It is never unloaded: NCCL and CUDA keep threads that run in its code.
#[derive(Debug)]
pub(crate) struct LoadedLibrary {
    pub(crate) handle: Library,
    pub(crate) path: PathBuf,
}

impl LoadedLibrary {
    /// The address of a symbol, if the library has it.
    pub(crate) fn symbol<T: Copy>(&self, name: &str) -> Option<T> {
        // SAFETY: the callers give `T` the C signature of `name`, and the library stays loaded.
        unsafe { self.handle.get::<T>(name.as_bytes()).ok().map(|symbol| *symbol) }
    }
}

/// What of this process and machine decides where is looked.
pub(crate) struct SearchEnvironment {
    pub(crate) variable: fn(&str) -> Option<OsString>,
    pub(crate) executable: Option<PathBuf>,
    /// Files that are loaded into this process.
    pub(crate) loaded: Vec<PathBuf>,
}

impl SearchEnvironment {
    pub(crate) fn present() -> Self {
        Self {
            variable: |name| std::env::var_os(name),
            executable: std::env::current_exe().ok(),
            loaded: loaded_files(),
        }
    }
}

/// Files of libtorch that are mapped into this process: NCCL's wheel lies beside libtorch's.
fn loaded_files() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let files = maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
    let mut files: Vec<_> = files
        .filter(|file| {
            file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libtorch_cpu.so"))
        })
        .collect();
    files.dedup();
    files
}

/// Opens the library at the first place that has it.
pub(crate) fn open(wanted: LibraryRequest, around: &SearchEnvironment) -> Result<LoadedLibrary, Error> {
    if let Some(path) = (around.variable)(wanted.variable).filter(|path| !path.is_empty()) {
        return open_named(wanted, PathBuf::from(path));
    }
    let mut places = Vec::new();
    for mode in [RTLD_NOLOAD, 0] {
        for name in wanted.names {
            match load(Path::new(name), mode) {
                Ok(handle) => return Ok(LoadedLibrary { handle, path: PathBuf::from(name) }),
                Err(_) if mode == RTLD_NOLOAD => {}
                Err(_) => places.push(format!("{name} by the loader")),
            }
        }
    }
    for folder in folders(wanted, around) {
        for path in wanted.names.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
            match load(&path, 0) {
                Ok(handle) => return Ok(LoadedLibrary { handle, path }),
                Err(message) => places.push(format!("{} ({message})", path.display())),
            }
        }
        places.push(folder.display().to_string());
    }
    let (library, variable, remedy) = (wanted.library, wanted.variable, wanted.remedy);
    Err(Error::NotFound { library, variable, places, remedy })
}

fn open_named(wanted: LibraryRequest, path: PathBuf) -> Result<LoadedLibrary, Error> {
    match load(&path, 0) {
        Ok(handle) => Ok(LoadedLibrary { handle, path }),
        Err(message) => {
            Err(Error::Load { library: wanted.library, variable: wanted.variable, path, message })
        }
    }
}

fn load(path: &Path, mode: i32) -> Result<Library, String> {
    // SAFETY: loading runs the library's initialisers; those of NCCL and CUDA are fit to run at any time.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | mode) };
    // The loader's own words are the source of what libloading says.
    opened.map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
}

/// Folders to look into when the loader knows nothing, in this order, each once.
pub(crate) fn folders(wanted: LibraryRequest, around: &SearchEnvironment) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for packages in site_packages(around) {
        all.extend(wanted.wheels.iter().map(|wheel| packages.join("nvidia").join(wheel).join("lib")));
    }
    for variable in ["NCCL_HOME", "NCCL_ROOT", "EBROOTNCCL", "CUDA_HOME", "CUDA_PATH", "EBROOTCUDA"] {
        if let Some(home) = (around.variable)(variable).map(PathBuf::from) {
            all.extend([home.join("lib"), home.join("lib64")]);
        }
    }
    if let Some(folder) = around.executable.as_deref().and_then(Path::parent) {
        all.extend([folder.to_owned(), folder.join("../lib")]);
    }
    for folder in ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/cuda/lib64"] {
        all.push(PathBuf::from(folder));
    }
    all.extend(["/usr/lib64", "/usr/local/lib", "/opt/lib"].map(PathBuf::from));
    for package in children(Path::new("/opt")) {
        all.extend([package.join("lib"), package.join("lib64")].into_iter().filter(|folder| folder.is_dir()));
    }
    let mut seen = Vec::new();
    all.retain(|folder| {
        let new = !seen.contains(folder);
        seen.push(folder.clone());
        new
    });
    all
}

/// Folders of Python packages: those of the virtual environment, of libtorch, and beside the program.
fn site_packages(around: &SearchEnvironment) -> Vec<PathBuf> {
    let mut environments: Vec<PathBuf> =
        (around.variable)("VIRTUAL_ENV").map(PathBuf::from).into_iter().collect();
    if let Some(executable) = &around.executable {
        environments.extend(executable.ancestors().skip(1).take(4).map(|folder| folder.join(".venv")));
    }
    let mut found = Vec::new();
    for environment in environments {
        for python in children(&environment.join("lib")) {
            found.push(python.join("site-packages"));
        }
    }
    let libtorch = (around.variable)("LIBTORCH").map(|root| PathBuf::from(root).join("lib/libtorch_cpu.so"));
    for file in around.loaded.iter().cloned().chain(libtorch) {
        // PACKAGES/torch/lib/libtorch_cpu.so, also through a link.
        let file = file.canonicalize().unwrap_or(file);
        found.extend(file.ancestors().nth(3).map(Path::to_owned));
    }
    found
}

/// What lies in a folder, in the order of names; nothing where it cannot be read.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: LibraryRequest = LibraryRequest {
        library: "NCCL",
        variable: "NCCL_RS_TEST_UNSET",
        names: &["libnccl-of-no-machine.so.2"],
        wheels: &["nccl"],
        remedy: "install it",
    };

    fn surroundings(variable: fn(&str) -> Option<OsString>) -> SearchEnvironment {
        let executable = Some(PathBuf::from("/srv/program/bin/train"));
        let loaded = vec![PathBuf::from("/srv/python/site-packages/torch/lib/libtorch_cpu.so")];
        SearchEnvironment { variable, executable, loaded }
    }

    #[test]
    fn a_library_that_is_nowhere_is_refused_with_every_place() {
        let around =
            surroundings(|name| (name == "CUDA_HOME").then(|| OsString::from("/srv/toolkits/cuda-13")));
        let text = open(ABSENT, &around).map(|found| found.path).unwrap_err().to_string();
        for part in [
            "NCCL was not found; looked for libnccl-of-no-machine.so.2 by the loader",
            "/srv/python/site-packages/nvidia/nccl/lib",
            "/srv/toolkits/cuda-13/lib64",
            "/srv/program/bin",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/local/cuda/lib64",
            "\nhint: install it, or let NCCL_RS_TEST_UNSET name its file",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn a_variable_that_names_no_library_ends_the_search() {
        let around =
            surroundings(|name| (name == "NCCL_RS_TEST_UNSET").then(|| OsString::from("/etc/hosts")));
        let text = open(ABSENT, &around).map(|found| found.path).unwrap_err().to_string();
        assert!(
            text.starts_with(
                "NCCL_RS_TEST_UNSET names /etc/hosts, which does not load as NCCL: /etc/hosts: "
            ),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_no_library_is_passed_over_with_a_word() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(ABSENT.names[0]), "no library").unwrap();
        let executable = Some(folder.path().join("program"));
        let around = SearchEnvironment { variable: |_| None, executable, loaded: Vec::new() };
        let text = open(ABSENT, &around).map(|found| found.path).unwrap_err().to_string();
        let file = folder.path().join(ABSENT.names[0]).display().to_string();
        assert!(text.contains(&format!("{file} (")), "{text}");
    }
}
