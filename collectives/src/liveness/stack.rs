//! Captures the stack of another thread of this process.
//!
//! The thread receives a signal whose handler walks the stack and stores only return addresses; the requesting thread
//! resolves the names. A thread that is inside the kernel and takes no signals (state D: a dead file system, a driver)
//! cannot answer. The kernel's view of the thread is written in either case. The walk ends at a frame without unwind
//! tables. Functions without symbols appear as addresses.

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The request. The default action ignores this signal, so a late one has no effect.
const REQUEST: Signal = Signal::SIGURG;
/// Maximum number of frames that are stored.
const MAX_FRAMES: usize = 128;
/// Timeout for the answer of the thread.
const TIMEOUT: Duration = Duration::from_millis(400);

static FRAMES: [AtomicUsize; MAX_FRAMES] = [const { AtomicUsize::new(0) }; MAX_FRAMES];
static FRAME_COUNT: AtomicUsize = AtomicUsize::new(0);
static ANSWERED: AtomicBool = AtomicBool::new(false);
/// Serialises the requests.
static REQUEST_LOCK: Mutex<()> = Mutex::new(());

/// Installs the signal handler. If the program already has one, it stays, and stacks are not walked.
pub(super) fn install() -> nix::Result<()> {
    let _lock = REQUEST_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    // The first walk may load libraries and allocate; later walks, in the handler, then do neither.
    store_frames();
    // On a stack of its own: kernels of the libraries keep numbers below the top of the stack of the interrupted thread.
    let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::Handler(on_ask), flags, SigSet::all());
    // SAFETY: `on_ask` only uses atomics and walks the stack; see there.
    let before = unsafe { sigaction(REQUEST, &action)? };
    let ours = matches!(before.handler(), SigHandler::Handler(handler) if handler as usize == on_ask as *const () as usize);
    if !ours && !matches!(before.handler(), SigHandler::SigDfl | SigHandler::SigIgn) {
        // SAFETY: restores the previous handler.
        unsafe { sigaction(REQUEST, &before)? };
    }
    Ok(())
}

extern "C" fn on_ask(_: c_int) {
    let errno = Errno::last_raw();
    store_frames();
    ANSWERED.store(true, Ordering::Release);
    Errno::set_raw(errno);
}

/// Walks the stack of the calling thread, without allocating and without resolving names.
fn store_frames() {
    let mut depth = 0;
    // SAFETY: `trace_unsynchronized` requires that no other thread walks a stack through this crate at the same time:
    // `REQUEST_LOCK` serialises the requests, and only the requested thread answers. If the signal interrupts the
    // thread while it loads a library, the unwinder may wait for the lock of the loader. A request is sent only to a
    // thread that exceeds its timeout, when the process is about to end, and the end does not wait for the answer.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            FRAMES[depth].store(frame.ip() as usize, Ordering::Relaxed);
            depth += 1;
            depth < MAX_FRAMES
        });
    }
    FRAME_COUNT.store(depth, Ordering::Relaxed);
}

/// The stack of a thread of this process and the kernel's view of the thread, as lines of text.
pub(super) fn of_thread(thread: libc::pid_t) -> String {
    let _lock = REQUEST_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = kernel_view(thread);
    if request_frames(thread) {
        text.push_str(&names());
    } else {
        text.push_str(
            "\n  the thread did not answer a signal: it is inside the kernel, or the program handles SIGURG itself",
        );
    }
    text
}

fn request_frames(thread: libc::pid_t) -> bool {
    ANSWERED.store(false, Ordering::Relaxed);
    // SAFETY: tgkill takes only integers, and returns an error if the thread has ended.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, REQUEST as c_int) } == 0;
    let asked = Instant::now();
    while sent && asked.elapsed() < TIMEOUT {
        if ANSWERED.load(Ordering::Acquire) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Names of the stored frames, from the interrupted function outwards.
fn names() -> String {
    let mut lines = Vec::new();
    let (mut interrupted, mut trampoline_next) = (0, false);
    for frame in FRAMES.iter().take(FRAME_COUNT.load(Ordering::Relaxed)) {
        // A return address points behind the call, which may be the last instruction of its function.
        let address = frame.load(Ordering::Relaxed).saturating_sub(1);
        let before = lines.len();
        backtrace::resolve(address as *mut _, |symbol| lines.push(line(symbol)));
        if lines.len() == before {
            lines.push(format!("{address:#x}"));
        }
        if trampoline_next {
            interrupted = lines.len();
        }
        trampoline_next = lines[before..].iter().any(|line| line.contains("on_ask"));
    }
    // Drops the frames of the handler and of the kernel's trampoline.
    lines.drain(..interrupted);
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = write!(text, "\n  {line}");
        text
    })
}

fn line(symbol: &backtrace::Symbol) -> String {
    let name = symbol.name().map_or_else(|| "?".to_owned(), |name| format!("{name:#}"));
    match (symbol.filename(), symbol.lineno()) {
        (Some(file), Some(number)) => format!("{name} at {}:{number}", file.display()),
        _ => name,
    }
}

/// State, kernel function and system call of a thread, as far as the kernel shows them.
fn kernel_view(thread: libc::pid_t) -> String {
    let read = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/{file}"));
        text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    };
    let stat = read("stat");
    let state =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("unknown");
    let call = read("syscall");
    let number = call.split_whitespace().next().unwrap_or("unknown");
    format!("thread {thread}: state {state}, system call {number}, in the kernel at {}", read("wchan"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::identity::own_thread;
    use std::sync::mpsc;

    #[inline(never)]
    fn sleep_until_stopped(stop: &mpsc::Receiver<()>) {
        while stop.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
            std::hint::black_box(());
        }
    }

    #[test]
    fn the_stack_of_a_sleeping_thread_names_its_function() {
        install().unwrap();
        let (stop, stopped) = mpsc::channel();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send(own_thread()).unwrap();
            sleep_until_stopped(&stopped);
        });
        let number = receiver.recv().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let stack = of_thread(number);
        assert!(stack.contains("sleep_until_stopped") && stack.contains("state "), "{stack}");
        assert!(!stack.contains("on_ask"), "{stack}");
        drop(stop);
        thread.join().unwrap();
        assert!(of_thread(number).contains("did not answer"));
    }
}
