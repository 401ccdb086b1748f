//! The Python package, as a part of this program.

use super::GpuCheckError;
use std::fs;
use std::path::Path;

/// Name of the package.
pub(super) const PACKAGE: &str = "gpu_check";

macro_rules! sources {
    ($($module:literal),* $(,)?) => {
        [$((
            concat!($module, ".py"),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/gpu_check/", $module, ".py")),
        )),*]
    };
}

/// File names and contents.
const SOURCES: [(&str, &str); 25] = sources![
    "__init__",
    "__main__",
    "context",
    "determinism",
    "evaluation",
    "found",
    "loader",
    "losses",
    "machine",
    "memory",
    "models",
    "nccl",
    "part",
    "parts",
    "peak",
    "pictures",
    "pytorch_model",
    "pytorch_step",
    "reference",
    "report",
    "runner",
    "safetensors",
    "speed",
    "stopping",
    "trainer",
];

/// Writes the package into a folder for Python's search path. It stays there: results and the code that found them belong
/// together.
pub(super) fn write(folder: &Path) -> Result<(), GpuCheckError> {
    let package = folder.join(PACKAGE);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| GpuCheckError::Output { path, source }
    };
    fs::create_dir_all(&package).map_err(failed(&package))?;
    for (name, text) in SOURCES {
        let path = package.join(name);
        fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_package_is_included() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/gpu_check");
        let entries =
            fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
        let files: BTreeSet<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        let included: BTreeSet<String> = SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(included, files);
    }

    #[test]
    fn the_package_is_written_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let written = fs::read_to_string(folder.path().join("gpu_check/__main__.py")).unwrap();
        assert!(SOURCES.contains(&("__main__.py", written.as_str())));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = write(&file).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write `{}", file.display())), "{error}");
    }
}
