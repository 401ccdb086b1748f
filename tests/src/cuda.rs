//! A GPU for tests: the stand-in for libtorch's CUDA part (`tests/cuda-stand-in`) and the one for NCCL. No figure measured
//! with them is a figure of a GPU.

use crate::{binary, build_file, json};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{fs, io};

/// Makes a trainer compute on the stand-in, whatever the number of its ranks.
pub fn on_stand_in(command: &mut Command) -> &mut Command {
    let nccl = binary("libnccl_stand_in.so");
    command.env("LD_LIBRARY_PATH", libraries()).env("NCCL_RS_LIBRARY", &nccl).env("NCCL_RS_CUDART", &nccl)
}

/// Lets the trainer compile its kernels for the CPU, and launch them there (`tests/nvrtc-stand-in`).
pub fn with_emulated_kernels(command: &mut Command) -> &mut Command {
    let library = binary("libnvrtc_stand_in.so");
    command.env("LIFT_NVRTC", &library).env("LIFT_CUDA_DRIVER", &library)
}

/// A folder with the libraries of libtorch and the stand-in as its CUDA part. The trainer looks for that beside the file
/// that the CPU part was read from, so the others are hard links, or copies on another file system.
fn libraries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = build_file("cuda-stand-in");
        let stand_in = binary("libcuda_stand_in.so");
        made(&folder, &stand_in).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        folder
    })
}

fn made(folder: &Path, stand_in: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let libtorch = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.libtorch/lib");
    for entry in fs::read_dir(libtorch)? {
        let entry = entry?;
        if entry.file_name() != "libtorch_cuda.so" {
            same_file(&entry.path().canonicalize()?, &folder.join(entry.file_name()))?;
        }
    }
    same_file(stand_in, &folder.join("libtorch_cuda.so"))
}

/// Puts a file under another name too. Test programs do it side by side, so the name appears with the whole file.
fn same_file(from: &Path, to: &Path) -> io::Result<()> {
    let same =
        |a: fs::Metadata, b: fs::Metadata| a.len() == b.len() && a.modified().ok() == b.modified().ok();
    if fs::metadata(to).is_ok_and(|there| fs::metadata(from).is_ok_and(|here| same(here, there))) {
        return Ok(());
    }
    let new = to.with_extension(format!("{}.new", std::process::id()));
    if fs::hard_link(from, &new).is_err() {
        fs::copy(from, &new)?;
        let modified = fs::metadata(from)?.modified()?;
        fs::File::options().write(true).open(&new)?.set_modified(modified)?;
    }
    fs::rename(new, to)
}

/// What each rank did with its device, from the folder that `CUDA_STAND_IN_REPORT` named.
pub fn reports(folder: &Path) -> Vec<Value> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.flatten().map(|entry| json(&entry.path())).collect()
}

/// The sum of a group of counts of a report.
pub fn count(report: &Value, group: &str) -> u64 {
    let counts = report[group].as_object().unwrap_or_else(|| panic!("a report has {group}"));
    counts.values().map(|count| count.as_u64().expect("a count is a number")).sum()
}
