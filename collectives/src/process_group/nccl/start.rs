//! The start of a group: libraries, one GPU for each rank, a common name, the communicator.

use super::NcclOptions;
use super::plane::Plane;
use super::watch::WatchedPlane;
use crate::activity::Activity;
use crate::control::Control;
use crate::error::CollectiveError;
use crate::stand_in::cuda_is_stand_in;
use nccl_rs::{Communicator, CudaRuntime, CudaStream, Library, UniqueId};
use std::sync::Arc;
use tch::Device;

/// The symbol that tells the stand-in of the tests.
const STAND_IN: &str = "nccl_stand_in";

struct OpenedPlane {
    nccl: Library,
    runtime: CudaRuntime,
    stream: CudaStream,
    /// Name of the GPU.
    gpu: String,
    stand_in: bool,
}

/// A rank's problem; that time ran out is usually another rank's fault, and told only where nobody knows better.
struct StartProblem {
    text: String,
    timeout: bool,
}

impl StartProblem {
    fn new(error: &nccl_rs::Error) -> Self {
        Self { text: error.to_string(), timeout: error.is_timeout() }
    }
}

/// All ranks get a group, or the same error; a rank on which NCCL itself fails gets its error at once, and has to end
/// the job, since the others wait for it.
pub(super) fn start(
    control: &Control,
    activity: &Activity,
    options: NcclOptions,
) -> Result<(Communicator, Arc<WatchedPlane>), CollectiveError> {
    let unavailable = |rank, message| CollectiveError::Unavailable { rank, message };
    let opened = agreed(control, open(options.device), unavailable)?;
    refuse_shared_gpus(control, &opened.gpu)?;
    let id = agreed(control, new_id(control, &opened.nccl), unavailable)?;
    let id = share(control, id)?;

    let _entered = activity.enter_collective("init");
    let step = activity.now().0.step;
    let place = (control.rank(), control.size());
    let made = Communicator::init_rank(&opened.nccl, &id, place, options.timeout);
    let failed = |rank, message| CollectiveError::Nccl { rank, operation: "init", step, message };
    if let Err(error) = &made
        && !error.is_timeout()
    {
        // The others cannot finish without this rank: to wait until they give up would help nobody.
        return Err(failed(control.rank(), error.to_string()));
    }
    let communicator = agreed(control, made.map_err(|error| StartProblem::new(&error)), failed)?;

    let OpenedPlane { nccl, runtime, stream, gpu, stand_in } = opened;
    tell(&nccl, &gpu, stand_in);
    let plane = Plane::new(runtime, stream, (activity.clone(), control.rank()), options, stand_in);
    let watched = WatchedPlane::start(plane);
    let no_thread = |error: std::io::Error| StartProblem {
        text: format!("a thread cannot be started: {error}"),
        timeout: false,
    };
    let watched = agreed(control, watched.map_err(no_thread), unavailable)?;
    Ok((communicator, Arc::new(watched)))
}

fn tell(nccl: &Library, gpu: &str, stand_in: bool) {
    let version = nccl.version().map_or_else(|error| error.to_string(), |version| version.to_string());
    if stand_in {
        tracing::warn!("NCCL's stand-in {}: for tests only, no figure is NCCL's", nccl.path().display());
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
            let text = format!("{needed}, but this rank computes on {device:?}; use the group over MPI");
            return Err(StartProblem { text, timeout: false });
        }
    };
    let with_device = |runtime: CudaRuntime| {
        runtime.set_device(index)?;
        let (gpu, stream) = (runtime.device_name(index)?, runtime.stream()?);
        Ok((runtime, stream, gpu))
    };
    let opened = CudaRuntime::open().and_then(with_device);
    let (runtime, stream, gpu) = opened.map_err(|error| StartProblem::new(&error))?;
    Ok(OpenedPlane { nccl, runtime, stream, gpu, stand_in })
}

/// NCCL cannot run two ranks on one GPU, and says so in words that help nobody.
fn refuse_shared_gpus(control: &Control, gpu: &str) -> Result<(), CollectiveError> {
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let all = control.all_gather(format!("{host}\n{gpu}").as_bytes())?;
    for (second, name) in all.iter().enumerate() {
        if let Some(first) = all[..second].iter().position(|other| other == name) {
            let name = String::from_utf8_lossy(name);
            let (host, gpu) = name.split_once('\n').unwrap_or_default();
            let (host, gpu) = (host.to_owned(), gpu.to_owned());
            return Err(CollectiveError::SameGpu { first, second, host, gpu });
        }
    }
    Ok(())
}

/// Rank 0 makes the name of the communicator.
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

/// Makes a problem of any rank the error of all: of those ranks that know the cause, the first is named.
fn agreed<T>(
    control: &Control,
    own: Result<T, StartProblem>,
    error: impl FnOnce(usize, String) -> CollectiveError,
) -> Result<T, CollectiveError> {
    let said = match &own {
        Ok(_) => String::new(),
        Err(problem) => format!("{}{}", if problem.timeout { 't' } else { 'e' }, problem.text),
    };
    let all = control.all_gather(said.as_bytes())?;
    let first = |mark| all.iter().position(|said: &Vec<u8>| said.first() == Some(&mark));
    match (first(b'e').or_else(|| first(b't')), own) {
        (Some(rank), _) => Err(error(rank, String::from_utf8_lossy(&all[rank][1..]).into_owned())),
        (None, Ok(value)) => Ok(value),
        // Its own problem is among those gathered, so this rank has none either.
        (None, Err(problem)) => Err(error(control.rank(), problem.text)),
    }
}
