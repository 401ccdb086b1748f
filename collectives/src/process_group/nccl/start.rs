//! Starts a group: loads the libraries, checks that each rank has its own GPU, distributes the unique id, and creates
//! the communicator.

use super::NcclOptions;
use super::plane::Plane;
use super::watch::WatchedPlane;
use crate::activity::Activity;
use crate::control::Control;
use crate::error::CollectiveError;
use crate::stand_in::cuda_is_stand_in;
use nccl_rs::{Communicator, CudaRuntime, CudaStream, DeviceIdentity, Library, UniqueId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;
use tch::Device;

/// A symbol that only the stand-in of the tests exports.
const STAND_IN: &str = "nccl_stand_in";

struct OpenedPlane {
    nccl: Library,
    runtime: CudaRuntime,
    stream: CudaStream,
    gpu: DeviceIdentity,
    stand_in: bool,
}

/// The problem of a rank. A timeout is usually caused by another rank, so it is reported only if no rank has another
/// problem.
struct StartProblem {
    text: String,
    timeout: bool,
}

impl StartProblem {
    fn new(error: &nccl_rs::Error) -> Self {
        Self { text: error.to_string(), timeout: error.is_timeout() }
    }
}

/// All ranks receive a group, or all receive the same error. Exception: a rank on which NCCL itself fails receives its
/// error at once and must end the job, because the other ranks wait for it.
pub(super) fn start(
    control: &Control,
    activity: &Activity,
    options: NcclOptions,
) -> Result<(Communicator, Arc<WatchedPlane>), CollectiveError> {
    let unavailable = |rank, message| CollectiveError::Unavailable { rank, message };
    let opened = agreed(control, open(options.device), unavailable)?;
    let advice = compare_gpus(control, &opened.gpu)?;
    let id = agreed(control, new_id(control, &opened.nccl), unavailable)?;
    let id = share(control, id)?;

    let _entered = activity.enter_collective("init");
    let step = activity.now().0.step;
    let place = (control.rank(), control.size());
    let created = Communicator::init_rank(&opened.nccl, &id, place, options.timeout);
    let failed = |rank, message: String| CollectiveError::Nccl {
        rank,
        operation: "init",
        step,
        message: format!("{message}{advice}"),
    };
    if let Err(error) = &created
        && !error.is_timeout()
    {
        // The other ranks cannot finish without this rank, so it does not wait for their timeout.
        return Err(failed(control.rank(), error.to_string()));
    }
    let communicator = agreed(control, created.map_err(|error| StartProblem::new(&error)), failed)?;

    let OpenedPlane { nccl, runtime, stream, gpu, stand_in } = opened;
    log_library(&nccl, &gpu.name, stand_in);
    let plane = Plane::new(runtime, stream, (activity.clone(), control.rank()), options, stand_in);
    let watched = WatchedPlane::start(plane);
    let no_thread = |error: std::io::Error| StartProblem {
        text: format!("a thread cannot be started: {error}"),
        timeout: false,
    };
    let watched = agreed(control, watched.map_err(no_thread), unavailable)?;
    Ok((communicator, Arc::new(watched)))
}

fn log_library(nccl: &Library, gpu: &str, stand_in: bool) {
    let version = nccl.version().map_or_else(|error| error.to_string(), |version| version.to_string());
    if stand_in {
        tracing::warn!(
            "stand-in for NCCL {}: for tests only, measurements say nothing about NCCL",
            nccl.path().display()
        );
    } else {
        tracing::info!("NCCL {version} ({}) on {gpu}", nccl.path().display());
    }
}

/// Loads the libraries and chooses the device.
fn open(device: Device) -> Result<OpenedPlane, StartProblem> {
    let nccl = Library::open().map_err(|error| StartProblem::new(&error))?;
    let stand_in = nccl.has_symbol(STAND_IN);
    let index = match (device, stand_in) {
        (Device::Cuda(index), stand_in) if stand_in == cuda_is_stand_in() => index as i32,
        (Device::Cpu, true) => 0,
        (device, _) => {
            let needed =
                if stand_in { "its stand-in needs tensors in host memory" } else { "it needs a GPU" };
            let text =
                format!("{needed}, but this rank computes on {device:?}\nhint: use the group over MPI");
            return Err(StartProblem { text, timeout: false });
        }
    };
    let with_device = |runtime: CudaRuntime| {
        runtime.set_device(index)?;
        let (gpu, stream) = (runtime.identity(index)?, runtime.stream()?);
        Ok((runtime, stream, gpu))
    };
    let opened = CudaRuntime::open().and_then(with_device);
    let (runtime, stream, gpu) = opened.map_err(|error| StartProblem::new(&error))?;
    Ok(OpenedPlane { nccl, runtime, stream, gpu, stand_in })
}

/// Returns an error if two ranks share a device, which NCCL does not support and reports with an unclear message; else the
/// text to add to an error of NCCL's start.
fn compare_gpus(control: &Control, gpu: &DeviceIdentity) -> Result<String, CollectiveError> {
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let own = [&host, &gpu.address, &gpu.name].map(String::as_str).join("\n");
    let all = control.all_gather(own.as_bytes())?;
    let all: Vec<_> = all.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    if let Some((first, second)) = first_pair(all.iter()) {
        let mut lines = all[first].lines().map(str::to_owned);
        let (host, gpu) = (lines.next().unwrap_or_default(), lines.next_back().unwrap_or_default());
        return Err(CollectiveError::SameGpu { first, second, host, gpu });
    }
    let gpus = all.iter().map(|device| device.rsplit_once('\n').map(|(gpu, _)| gpu));
    let Some((first, second)) = first_pair(gpus) else { return Ok(String::new()) };
    tracing::info!("ranks {first} and {second} are on MIG slices of one GPU");
    Ok(advice_for_slices(first, second))
}

/// The first rank whose key an earlier rank has, after that rank.
fn first_pair<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> Option<(usize, usize)> {
    let mut seen = HashMap::new();
    keys.enumerate().find_map(|(rank, key)| match seen.entry(key) {
        Entry::Occupied(first) => Some((*first.get(), rank)),
        Entry::Vacant(place) => {
            place.insert(rank);
            None
        }
    })
}

/// MIG slices of a GPU have the address of the GPU, by which NCCL distinguishes devices.
fn advice_for_slices(first: usize, second: usize) -> String {
    format!(
        "; ranks {first} and {second} are on MIG slices of one GPU, which NCCL takes for one device\n\
         hint: use MPI (distributed.backend=mpi), give each rank a GPU of its own, or use NCCL 2.32 or newer with \
         NCCL_MULTI_RANK_GPU_ENABLE=1"
    )
}

/// Creates the unique id of the communicator, on rank 0 only.
fn new_id(control: &Control, nccl: &Library) -> Result<Option<UniqueId>, StartProblem> {
    if control.rank() != 0 {
        return Ok(None);
    }
    nccl.unique_id().map(Some).map_err(|error| StartProblem::new(&error))
}

fn share(control: &Control, id: Option<UniqueId>) -> Result<UniqueId, CollectiveError> {
    let bytes = id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let bytes = control.broadcast(bytes, 0)?;
    let wrong = |_| CollectiveError::Message {
        rank: control.rank(),
        operation: "init",
        expected: "NCCL's unique id of 128 bytes",
    };
    Ok(UniqueId::from_bytes(bytes.try_into().map_err(wrong)?))
}

/// Turns a problem of any rank into an error on all ranks. The error names the lowest rank whose problem is not a
/// timeout, if there is one.
fn agreed<T>(
    control: &Control,
    own: Result<T, StartProblem>,
    error: impl FnOnce(usize, String) -> CollectiveError,
) -> Result<T, CollectiveError> {
    let text = match &own {
        Ok(_) => String::new(),
        Err(problem) => format!("{}{}", if problem.timeout { 't' } else { 'e' }, problem.text),
    };
    let all = control.all_gather(text.as_bytes())?;
    let first = |mark| all.iter().position(|text: &Vec<u8>| text.first() == Some(&mark));
    match (first(b'e').or_else(|| first(b't')), own) {
        (Some(rank), _) => Err(error(rank, String::from_utf8_lossy(&all[rank][1..]).into_owned())),
        (None, Ok(value)) => Ok(value),
        // Unreachable: the gathered problems include that of this rank.
        (None, Err(problem)) => Err(error(control.rank(), problem.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_on_a_device_in_use_is_found_with_the_rank_that_uses_it() {
        assert_eq!(first_pair("abcb".chars()), Some((1, 3)));
        assert_eq!(first_pair("abca".chars().chain("b".chars())), Some((0, 3)));
        assert_eq!(first_pair("abc".chars()), None);
    }
}
