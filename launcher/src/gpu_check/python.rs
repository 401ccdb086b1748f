//! Finds a Python with PyTorch.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variable that names the Python to use.
const PYTHON: &str = "PYTHON";
/// The version of PyTorch that the trainer is built with; results of others are not comparable.
const TORCH: &str = "2.11";

/// No Python has the right PyTorch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a Python with torch {TORCH}, found {}\nhint: install it with `pip install torch=={TORCH}.*`, or name a Python that \
    has it, e.g. PYTHON=/opt/venv/bin/python",
    .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
)]
pub struct NoPython(Vec<UnfitPython>);

/// A Python that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UnfitPython {
    python: PathBuf,
    reason: String,
}

impl fmt::Display for UnfitPython {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.python.display(), self.reason)
    }
}

/// The Python of the environment variable and no other; without it, the one beside this program as in a virtual
/// environment, the one of the source tree, or the one on PATH.
pub(super) fn find(lift: &Path) -> Result<PathBuf, NoPython> {
    choose(candidates(std::env::var_os(PYTHON).as_deref(), lift), torch_version)
}

fn candidates(named: Option<&OsStr>, lift: &Path) -> Vec<PathBuf> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return vec![named.into()];
    }
    let beside = lift.with_file_name("python3");
    let source_tree = lift.ancestors().nth(3).map(|root| root.join(".venv/bin/python3"));
    let there = [Some(beside), source_tree].into_iter().flatten().filter(|path| path.exists());
    there.chain([PathBuf::from("python3")]).collect()
}

fn choose(
    candidates: Vec<PathBuf>,
    version: impl Fn(&Path) -> Result<String, String>,
) -> Result<PathBuf, NoPython> {
    let mut unfit = Vec::new();
    for python in candidates {
        match version(&python) {
            Ok(found) if found.split('.').take(2).eq(TORCH.split('.')) => return Ok(python),
            Ok(found) => unfit.push(UnfitPython { python, reason: format!("torch {found}") }),
            Err(reason) => unfit.push(UnfitPython { python, reason }),
        }
    }
    Err(NoPython(unfit))
}

/// The version that a Python imports, or why it does not.
fn torch_version(python: &Path) -> Result<String, String> {
    let mut command = Command::new(python);
    command.args(["-c", "import torch; print(torch.__version__)"]).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    let last = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().lines().last().map(str::to_owned);
    if output.status.success() {
        return Ok(last(&output.stdout).unwrap_or_default());
    }
    Err(last(&output.stderr).unwrap_or_else(|| output.status.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_python_with_the_right_version_is_taken() {
        let version = |python: &Path| match python.to_str() {
            Some("old") => Ok("2.1.0".to_owned()),
            Some("right") => Ok("2.11.0+cu130".to_owned()),
            _ => Err("ModuleNotFoundError: No module named 'torch'".to_owned()),
        };
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(choose(paths(&["none", "old", "right"]), version), Ok("right".into()));
        assert_eq!(
            choose(paths(&["none", "old"]), version).unwrap_err().to_string(),
            "expected a Python with torch 2.11, found `none` (ModuleNotFoundError: No module named 'torch'); `old` (torch \
             2.1.0)\nhint: install it with `pip install torch==2.11.*`, or name a Python that has it, e.g. \
             PYTHON=/opt/venv/bin/python"
        );
    }

    #[test]
    fn a_named_python_is_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let lift = folder.path().join("lift");
        assert_eq!(candidates(Some("/x/python".as_ref()), &lift), [PathBuf::from("/x/python")]);
        assert_eq!(candidates(Some("".as_ref()), &lift), [PathBuf::from("python3")]);
        let beside = folder.path().join("python3");
        std::fs::write(&beside, "").unwrap();
        assert_eq!(candidates(None, &lift), [beside, PathBuf::from("python3")]);
    }

    #[test]
    fn a_program_that_is_no_python_is_told() {
        assert!(torch_version(Path::new("/no/such/python")).unwrap_err().contains("No such file"));
        assert!(torch_version(Path::new("false")).is_err());
    }
}
