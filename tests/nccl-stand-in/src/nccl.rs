//! The NCCL functions, with the signatures of NCCL 2.28.

use crate::board;
use crate::comm::{IN_PROGRESS, INVALID_ARGUMENT, INVALID_USAGE, SUCCESS, SYSTEM_ERROR, StandInComm};
use crate::comm::{last_error, set_last_error};
use crate::cuda::stream;
use crate::exchange::{ExchangeCall, ExchangeOperation};
use crate::fault::{self, StandInFaultKind};
use crate::reduce::{ElementType, Op};
use crate::stream::StandInStream;
use std::ffi::{OsStr, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

/// `ncclComm_t`.
type Handle = *mut Arc<StandInComm>;

/// `ncclUniqueId`: the path of the board, then zeros.
#[repr(C)]
#[derive(Clone, Copy)]
struct StandInId([u8; 128]);

/// The first fields of `ncclConfig_t`.
#[repr(C)]
struct StandInConfig {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
}

const MAGIC: c_uint = 0xcafe_beef;

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: the program passes a pointer to one integer.
    unsafe { version.write(22_809) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclGetUniqueId(id: *mut StandInId) -> c_int {
    let path = board::new_path().into_os_string().into_vec();
    let mut bytes = [0u8; 128];
    if path.len() >= bytes.len() {
        set_last_error("stand-in: the name of the temporary folder is too long");
        return SYSTEM_ERROR;
    }
    bytes[..path.len()].copy_from_slice(&path);
    // SAFETY: the program passes a pointer to 128 bytes.
    unsafe { id.write(StandInId(bytes)) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommInitRankConfig(
    comm: *mut Handle,
    size: c_int,
    id: StandInId,
    rank: c_int,
    config: *const StandInConfig,
) -> c_int {
    let refuse = |code, text: &str| {
        set_last_error(&format!("stand-in: {text}"));
        code
    };
    // SAFETY: null or the struct of the program, whose first fields are the same since NCCL 2.14.
    let config = unsafe { config.as_ref() };
    if config.is_some_and(|c| c.magic != MAGIC || c.size < size_of::<StandInConfig>() || c.version < 21_400) {
        return refuse(INVALID_ARGUMENT, "the configuration was not initialised");
    }
    if size < 1 || !(0..size).contains(&rank) {
        return refuse(INVALID_ARGUMENT, "the rank is not in 0..size");
    }
    fault::set_rank(rank as usize);
    if let Err(text) = fault::configured() {
        return refuse(INVALID_ARGUMENT, &text);
    }
    if fault::at_init() == Some(StandInFaultKind::InitFail) {
        return refuse(SYSTEM_ERROR, "injected failure while the communicator is created");
    }
    let end = id.0.iter().position(|&byte| byte == 0).unwrap_or(id.0.len());
    let path = PathBuf::from(OsStr::from_bytes(&id.0[..end]));
    let blocking = config.is_none_or(|config| config.blocking != 0);
    let created = StandInComm::start(path, rank as usize, size as usize, blocking);
    // SAFETY: the program passes a pointer to one handle.
    unsafe { comm.write(Box::into_raw(Box::new(created.clone()))) };
    if blocking { created.ready() } else { IN_PROGRESS }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommSplit(
    comm: Handle,
    color: c_int,
    key: c_int,
    created: *mut Handle,
    _config: *const StandInConfig,
) -> c_int {
    // SAFETY: the pointer of the program is valid while the parent is in progress; an atomic pointer has the layout
    // of a plain one.
    let (parent, created) = unsafe { (&*comm, &*created.cast::<AtomicPtr<Arc<StandInComm>>>()) };
    created.store(std::ptr::null_mut(), Ordering::Release);
    parent.split(i64::from(color), i64::from(key), created);
    if parent.blocking { parent.ready() } else { IN_PROGRESS }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommFinalize(comm: Handle) -> c_int {
    // SAFETY: the program's handle is alive.
    unsafe { (*comm).drain() };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommDestroy(comm: Handle) -> c_int {
    // SAFETY: the pointer comes from Box::into_raw and is freed once.
    let comm = unsafe { Box::from_raw(comm) };
    comm.drain();
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommAbort(comm: Handle) -> c_int {
    // SAFETY: the pointer comes from Box::into_raw and is freed once.
    let comm = unsafe { Box::from_raw(comm) };
    comm.abort();
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclCommGetAsyncError(comm: Handle, state: *mut c_int) -> c_int {
    // SAFETY: the program's handle is alive, and the program passes a pointer to one integer.
    unsafe { state.write((*comm).state()) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetErrorString(code: c_int) -> *const c_char {
    match code {
        SUCCESS => c"no error",
        1 => c"unhandled cuda error",
        SYSTEM_ERROR => c"unhandled system error",
        3 => c"internal error",
        INVALID_ARGUMENT => c"invalid argument",
        INVALID_USAGE => c"invalid usage",
        6 => c"remote process exited or there was a network error",
        IN_PROGRESS => c"NCCL operation in progress",
        _ => c"unknown result code",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn ncclGetLastError(_comm: Handle) -> *const c_char {
    last_error()
}

/// Queues a collective on its stream.
///
/// # Safety
/// The handles must be alive. The buffers must have the sizes of the collective, and nothing else may use them until
/// it is done.
unsafe fn enqueue(
    buffers: (*const c_void, *mut c_void),
    count: usize,
    (kind, operation): (c_int, Option<ExchangeOperation>),
    comm: Handle,
    queue: *mut StandInStream,
) -> c_int {
    let (Some(kind), Some(operation)) = (ElementType::from_code(kind), operation) else {
        set_last_error("stand-in: unknown data type or operation");
        return INVALID_ARGUMENT;
    };
    // SAFETY: guaranteed by the caller.
    let (comm, queue) = unsafe { ((*comm).clone(), stream(queue)) };
    if comm.board.get().is_none() || comm.is_aborted() {
        set_last_error("stand-in: the communicator is not ready");
        return INVALID_USAGE;
    }
    let call = ExchangeCall { operation, kind, count, send: buffers.0.cast(), receive: buffers.1.cast() };
    let (number, fault) = fault::at_call();
    comm.busy.fetch_add(1, Ordering::AcqRel);
    let first = !comm.used.swap(true, Ordering::AcqRel);
    let result = if first && !comm.blocking { IN_PROGRESS } else { SUCCESS };
    queue.push(move || {
        call.run(&comm, fault, number);
        comm.busy.fetch_sub(1, Ordering::AcqRel);
    });
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclAllReduce(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    kind: c_int,
    op: c_int,
    comm: Handle,
    stream: *mut StandInStream,
) -> c_int {
    let operation = Op::from_code(op).map(ExchangeOperation::AllReduce);
    // SAFETY: guaranteed by the program.
    unsafe { enqueue((send, receive), count, (kind, operation), comm, stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclAllGather(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    kind: c_int,
    comm: Handle,
    stream: *mut StandInStream,
) -> c_int {
    // SAFETY: guaranteed by the program.
    unsafe { enqueue((send, receive), count, (kind, Some(ExchangeOperation::AllGather)), comm, stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclReduceScatter(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    kind: c_int,
    op: c_int,
    comm: Handle,
    stream: *mut StandInStream,
) -> c_int {
    let operation = Op::from_code(op).map(ExchangeOperation::ReduceScatter);
    // SAFETY: guaranteed by the program.
    unsafe { enqueue((send, receive), count, (kind, operation), comm, stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ncclBroadcast(
    send: *const c_void,
    receive: *mut c_void,
    count: usize,
    kind: c_int,
    root: c_int,
    comm: Handle,
    stream: *mut StandInStream,
) -> c_int {
    // SAFETY: the program's handle is alive.
    let size = unsafe { &*comm }.size;
    let operation = usize::try_from(root).ok().filter(|&root| root < size).map(ExchangeOperation::Broadcast);
    // SAFETY: guaranteed by the program.
    unsafe { enqueue((send, receive), count, (kind, operation), comm, stream) }
}
