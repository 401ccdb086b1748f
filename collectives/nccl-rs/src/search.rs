//! Searches a library in the loader, in Python wheels, in toolkits and in system folders.

use crate::error::Error;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `RTLD_NOLOAD` of glibc: find only libraries that are already loaded.
const RTLD_NOLOAD: i32 = 4;

/// A library of NVIDIA to search for.
#[derive(Debug, Clone, Copy)]
pub struct LibraryRequest {
    /// Its name in messages.
    pub library: &'static str,
    /// Environment variable with the path, which replaces the search.
    pub variable: &'static str,
    /// File names in order of preference.
    pub names: &'static [&'static str],
    /// Folders of wheels that contain it, below `site-packages/nvidia`.
    pub wheels: &'static [&'static str],
    /// What to do if it is not found, as the beginning of a hint.
    pub remedy: &'static str,
}

impl LibraryRequest {
    /// Finds and loads the library, in the search order of [`Library::open`](crate::Library::open).
    pub fn open(self) -> Result<LoadedLibrary, Error> {
        open(self, &SearchEnvironment::present())
    }
}

/// A loaded library. It is never unloaded, because NCCL and CUDA keep threads that run in its code.
#[derive(Debug)]
pub struct LoadedLibrary {
    pub(crate) handle: Library,
    pub(crate) path: PathBuf,
}

impl LoadedLibrary {
    /// Its path, or the name under which the loader found it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `T` must be the type of a pointer to the function `name`.
    pub unsafe fn function<T: Copy>(&self, name: &'static str) -> Result<T, Error> {
        self.symbol(name)
            .ok_or_else(|| Error::Symbol { library: self.path.display().to_string(), symbol: name })
    }
}

impl LoadedLibrary {
    /// The address of a symbol, if the library exports it.
    pub(crate) fn symbol<T: Copy>(&self, name: &str) -> Option<T> {
        // SAFETY: the callers pass the C signature of `name` as `T`, and the library stays loaded.
        unsafe { self.handle.get::<T>(name.as_bytes()).ok().map(|symbol| *symbol) }
    }
}

/// The properties of this process that determine the search.
pub(crate) struct SearchEnvironment {
    pub(crate) variable: fn(&str) -> Option<OsString>,
    pub(crate) executable: Option<PathBuf>,
    /// Files of libtorch that are loaded into this process.
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

/// Files of libtorch that are mapped into this process: the wheel of NCCL is beside that of libtorch.
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

/// Opens the first library found.
pub(crate) fn open(request: LibraryRequest, environment: &SearchEnvironment) -> Result<LoadedLibrary, Error> {
    if let Some(path) = (environment.variable)(request.variable).filter(|path| !path.is_empty()) {
        return open_named(request, PathBuf::from(path));
    }
    let mut places = Vec::new();
    for mode in [RTLD_NOLOAD, 0] {
        for name in request.names {
            match load(Path::new(name), mode) {
                Ok(handle) => return Ok(LoadedLibrary { handle, path: PathBuf::from(name) }),
                Err(_) if mode == RTLD_NOLOAD => {}
                Err(_) => places.push(format!("{name} by the loader")),
            }
        }
    }
    for folder in folders(request, environment) {
        for path in request.names.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
            match load(&path, 0) {
                Ok(handle) => return Ok(LoadedLibrary { handle, path }),
                Err(message) => places.push(format!("{} ({message})", path.display())),
            }
        }
        places.push(folder.display().to_string());
    }
    let (library, variable, remedy) = (request.library, request.variable, request.remedy);
    Err(Error::NotFound { library, variable, places, remedy })
}

fn open_named(request: LibraryRequest, path: PathBuf) -> Result<LoadedLibrary, Error> {
    match load(&path, 0) {
        Ok(handle) => Ok(LoadedLibrary { handle, path }),
        Err(message) => {
            Err(Error::Load { library: request.library, variable: request.variable, path, message })
        }
    }
}

fn load(path: &Path, mode: i32) -> Result<Library, String> {
    // SAFETY: loading runs the initialisers of the library; those of NCCL and CUDA may run at any time.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | mode) };
    // The source of libloading's error is the text of the loader.
    opened.map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
}

/// Folders to search if the loader does not know the library, in order and without duplicates.
pub(crate) fn folders(request: LibraryRequest, environment: &SearchEnvironment) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for packages in site_packages(environment) {
        all.extend(request.wheels.iter().map(|wheel| packages.join("nvidia").join(wheel).join("lib")));
    }
    for variable in ["NCCL_HOME", "NCCL_ROOT", "EBROOTNCCL", "CUDA_HOME", "CUDA_PATH", "EBROOTCUDA"] {
        if let Some(home) = (environment.variable)(variable).map(PathBuf::from) {
            all.extend([home.join("lib"), home.join("lib64")]);
        }
    }
    if let Some(folder) = environment.executable.as_deref().and_then(Path::parent) {
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

/// Folders of Python packages: in the virtual environment, of libtorch, and in a `.venv` above the program.
fn site_packages(environment: &SearchEnvironment) -> Vec<PathBuf> {
    let mut environments: Vec<PathBuf> =
        (environment.variable)("VIRTUAL_ENV").map(PathBuf::from).into_iter().collect();
    if let Some(executable) = &environment.executable {
        environments.extend(executable.ancestors().skip(1).take(4).map(|folder| folder.join(".venv")));
    }
    let mut found = Vec::new();
    for environment in environments {
        for python in children(&environment.join("lib")) {
            found.push(python.join("site-packages"));
        }
    }
    let libtorch =
        (environment.variable)("LIBTORCH").map(|root| PathBuf::from(root).join("lib/libtorch_cpu.so"));
    for file in environment.loaded.iter().cloned().chain(libtorch) {
        // PACKAGES/torch/lib/libtorch_cpu.so, also through a symbolic link.
        let file = file.canonicalize().unwrap_or(file);
        found.extend(file.ancestors().nth(3).map(Path::to_owned));
    }
    found
}

/// Entries of a folder, sorted by name; empty if the folder cannot be read.
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

    fn test_environment(variable: fn(&str) -> Option<OsString>) -> SearchEnvironment {
        let executable = Some(PathBuf::from("/srv/program/bin/train"));
        let loaded = vec![PathBuf::from("/srv/python/site-packages/torch/lib/libtorch_cpu.so")];
        SearchEnvironment { variable, executable, loaded }
    }

    #[test]
    fn a_missing_library_is_an_error_with_all_searched_places() {
        let environment =
            test_environment(|name| (name == "CUDA_HOME").then(|| OsString::from("/srv/toolkits/cuda-13")));
        let text = open(ABSENT, &environment).map(|found| found.path).unwrap_err().to_string();
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
    fn a_variable_with_a_wrong_path_ends_the_search() {
        let environment =
            test_environment(|name| (name == "NCCL_RS_TEST_UNSET").then(|| OsString::from("/etc/hosts")));
        let text = open(ABSENT, &environment).map(|found| found.path).unwrap_err().to_string();
        assert!(
            text.starts_with(
                "NCCL_RS_TEST_UNSET names /etc/hosts, which does not load as NCCL: /etc/hosts: "
            ),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_no_library_is_skipped_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(ABSENT.names[0]), "no library").unwrap();
        let executable = Some(folder.path().join("program"));
        let environment = SearchEnvironment { variable: |_| None, executable, loaded: Vec::new() };
        let text = open(ABSENT, &environment).map(|found| found.path).unwrap_err().to_string();
        let file = folder.path().join(ABSENT.names[0]).display().to_string();
        assert!(text.contains(&format!("{file} (")), "{text}");
    }
}
