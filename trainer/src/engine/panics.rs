//! Ends a process that cannot continue: after a panic of the training thread, or out of memory. The error goes into the
//! rank's log, into `status.json` and to the terminal; then the process ends.
//!
//! Unwinding would finalise MPI on this rank alone and leave the others waiting forever, while a dead rank ends the
//! job. Panics of loader threads become errors of their batch. Rust aborts on a failed allocation; the allocator
//! records the size, and the handler of the abort reports it. A mapped file that is truncated while it is read causes a
//! bus error, whose handler names the file.

use crate::engine::gpu::cuda_graph;
use crate::engine::memory::{MemoryOptions, OutOfMemory};
use crate::run::{end_within, final_status, say};
use crate::weights::file_map::file_at;
use collectives::Activity;
use nix::libc::{self, c_int, c_void};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use protocol::Outcome;
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What to do about a failure that may come from a capture.
const NO_GRAPHS: &str =
    ", or an operation that a CUDA graph cannot contain\nhint: set train.cuda_graphs=false";
/// Time limit in seconds for reporting the error.
const LAST_SECONDS: u32 = 3;
/// Part of the standard library's message if a new thread gets no memory for its signal stack. It panics before the
/// thread runs any code that could turn this into an error, and aborts.
const NO_STACK: &str = "alternative stack";
/// Reserve memory that is freed before the error is formatted. It is not touched until then.
const RESERVE: usize = 8 << 20;

static SCENE: Mutex<Scene> = Mutex::new(Scene::NONE);
/// Bytes of the last allocation that the system refused.
static REFUSED: AtomicUsize = AtomicUsize::new(0);
static RESERVED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// The thread that ends the process; 0 for none.
static ENDER: AtomicI32 = AtomicI32::new(0);

struct Scene {
    /// Number of this rank, and of all.
    rank: Option<(usize, usize)>,
    activity: Option<Activity>,
    limits: MemoryOptions,
}

impl Scene {
    const NONE: Self = Self { rank: None, activity: None, limits: MemoryOptions::NONE };
}

/// Installs the handlers for a panic of the main thread, a failed allocation and a truncated mapped file.
pub fn install() {
    *RESERVED.lock().unwrap_or_else(PoisonError::into_inner) = vec![0; RESERVE];
    std::panic::set_hook(Box::new(on_panic));
    explain_signal(Signal::SIGABRT, SigHandler::Handler(on_abort));
    explain_signal(Signal::SIGBUS, SigHandler::SigAction(on_bus_error));
}

fn explain_signal(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::SA_RESETHAND, SigSet::empty());
    // SAFETY: both signals are raised synchronously by the thread itself, by an abort or by reading a mapped file,
    // outside of the allocator; so the handler may do what that thread may do. If it blocks on a lock of that thread,
    // the alarm ends the process.
    if let Err(error) = unsafe { sigaction(signal, &action) } {
        tracing::warn!("cannot install the handler of {signal}: {error}");
    }
}

/// The rank among how many, and the current activity of this process.
pub fn describe(rank: (usize, usize), activity: Activity) {
    let mut scene = scene();
    (scene.rank, scene.activity) = (Some(rank), Some(activity));
}

/// The options that decide how much memory is asked for.
pub fn set_limits(limits: MemoryOptions) {
    scene().limits = limits;
}

fn scene() -> MutexGuard<'static, Scene> {
    SCENE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let text = panic.payload_as_str().unwrap_or("no message");
    let ends = thread.name() == Some("main") || text.contains(NO_STACK);
    if ends {
        begin_end();
    }
    let place = panic.location().map(|at| format!(" (at {at})")).unwrap_or_default();
    let shortage = OutOfMemory::of(text);
    // Lines after the first are the C++ frames of libtorch, which say nothing about a shortage.
    let told = if shortage.is_some() { first_line(text) } else { text };
    tracing::info!("a panic in the thread `{}`: {told}{place}", thread.name().unwrap_or("?"));
    if let Some(shortage) = shortage.filter(|_| ends) {
        // Without its backtrace, which needs memory.
        end(&explained(&shortage));
    }
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::info!("its stack: {backtrace}");
    }
    if ends {
        let remedy = if cuda_graph::is_capturing() { NO_GRAPHS } else { "" };
        end(&format!("{text}{place}{}; this is a defect of the program{remedy}", doing()));
    }
}

extern "C" fn on_abort(_: c_int) {
    match REFUSED.load(Ordering::Relaxed) {
        // An abort of other code; the next abort carries it out.
        0 => {}
        bytes => {
            begin_end();
            end(&explained(&OutOfMemory::of_host(bytes)));
        }
    }
}

extern "C" fn on_bus_error(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes the description of the signal, which lives as long as the handler runs.
    let address = unsafe { (*info).si_addr() };
    begin_end();
    let file = file_at(address.addr())
        .map_or_else(|| "a mapped file".to_owned(), |path| format!("`{}`", path.display()));
    end(&format!("{file} was cut short while it was read{}\nhint: copy the file again", doing()));
}

/// The text of an error, with a remedy if it is an out-of-memory message.
pub fn explain(text: String) -> String {
    match OutOfMemory::of(&text) {
        Some(shortage) if shortage.is_of_gpu() => explained(&shortage),
        Some(shortage) => format!("{text}: {}", explained(&shortage)),
        None => text,
    }
}

fn first_line(text: &str) -> &str {
    // In the text of a failed `unwrap`, line ends are escaped.
    text.lines().next().unwrap_or_default().split("\\n").next().unwrap_or_default()
}

fn explained(shortage: &OutOfMemory) -> String {
    let scene = scene();
    let moment = scene.activity.as_ref().map(|activity| activity.now().0);
    shortage.sentence(moment.as_ref(), &scene.limits)
}

/// The current activity of this rank, as a part of a sentence.
fn doing() -> String {
    let now = scene().activity.as_ref().map(|activity| activity.now().0);
    now.map(|now| format!(" after step {} ({}, in {})", now.step, now.phase, now.operation))
        .unwrap_or_default()
}

/// Starts the end of the process, with this thread reporting the reason. A second failure ends it at once.
fn begin_end() {
    // In case a log or a disk blocks, or this thread waits for its own lock.
    end_within(LAST_SECONDS, Outcome::Failed);
    let own = nix::unistd::gettid().as_raw();
    match ENDER.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => *RESERVED.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new(),
        Err(ender) if ender == own => exit(),
        Err(_) => loop {
            std::thread::park();
        },
    }
}

/// Reports the reason and ends the process.
fn end(sentence: &str) -> ! {
    let rank = scene().rank;
    let named = rank.map_or_else(|| sentence.to_owned(), |(rank, _)| format!("rank {rank}: {sentence}"));
    let alone = rank.is_none_or(|(_, size)| size == 1);
    tracing::error!("{}", if alone { sentence } else { &named });
    // The log has already printed rank 0's error on the terminal.
    match rank {
        Some((0, _)) => {}
        Some((rank, _)) => say(format_args!("rank {rank}: error: {sentence}")),
        None => say(format_args!("error: {sentence}")),
    }
    if let Err(error) = final_status::write(Outcome::Failed, &named, None) {
        tracing::error!("{error}");
    }
    exit()
}

fn exit() -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(i32::from(Outcome::FAILED)) }
}

/// The system's allocator, with a record of failed requests.
#[derive(Debug)]
pub struct RecordingAllocator;

// SAFETY: delegates to the system's allocator, which fulfils the contract; recording a number does not allocate.
unsafe impl GlobalAlloc for RecordingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are those of the system's allocator.
        noted(layout.size(), unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are those of the system's allocator.
        noted(layout.size(), unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's obligations are those of the system's allocator.
        noted(size, unsafe { System.realloc(place, layout, size) })
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.dealloc(place, layout) };
    }
}

fn noted(size: usize, place: *mut u8) -> *mut u8 {
    if place.is_null() {
        REFUSED.store(size, Ordering::Relaxed);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::file_map::FileMap;
    use std::process::Command;

    /// Set for the child process that reads a truncated file.
    const CUT: &str = "LIFT_TEST_CUT";

    #[test]
    fn a_mapped_file_that_is_cut_short_is_named() {
        if let Some(path) = std::env::var_os(CUT) {
            install();
            let map = FileMap::open(path.as_ref()).unwrap();
            std::fs::File::options().write(true).open(map.path()).unwrap().set_len(0).unwrap();
            let sum: u64 = map.bytes().iter().map(|byte| u64::from(*byte)).sum();
            unreachable!("the sum of what is gone: {sum}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![1; 1 << 20]).unwrap();
        let name = "engine::panics::tests::a_mapped_file_that_is_cut_short_is_named";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args([name, "--exact", "--nocapture"]).env(CUT, file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let expected = format!("error: `{}` was cut short while it was read", file.path().display());
        assert!(said.contains(&expected), "{said}");
    }
}
