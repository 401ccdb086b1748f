//! Where a thread of this process stands, asked from another thread.
//!
//! The thread is sent a signal whose handler walks the stack and notes return addresses, nothing more; names are
//! looked up by the asking thread. A thread that sits in the kernel without taking signals (state D: a dead file
//! system, a driver) cannot answer; what the kernel says of it is written in either case. Frames without unwind
//! tables end the walk; functions of libraries without symbols have addresses only.

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ignored unless somebody handles it, so a late one does no harm.
const ASK: Signal = Signal::SIGURG;
/// Deepest stack that is noted.
const DEPTH: usize = 128;
/// How long a thread may take to answer.
const ANSWER: Duration = Duration::from_millis(400);

static FRAMES: [AtomicUsize; DEPTH] = [const { AtomicUsize::new(0) }; DEPTH];
static NOTED: AtomicUsize = AtomicUsize::new(0);
static ANSWERED: AtomicBool = AtomicBool::new(false);
/// One question at a time.
static ASKING: Mutex<()> = Mutex::new(());

/// Puts the handler in place. One that somebody else has put there stays, and stacks are then not walked.
pub(super) fn install() -> nix::Result<()> {
    let _one = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    // The first walk may load and allocate what later ones, in the handler, then find done.
    note_frames();
    let action = SigAction::new(SigHandler::Handler(on_ask), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: `on_ask` keeps to atomics and to walking the stack; see there.
    let before = unsafe { sigaction(ASK, &action)? };
    let ours = matches!(before.handler(), SigHandler::Handler(handler) if handler as usize == on_ask as *const () as usize);
    if !ours && !matches!(before.handler(), SigHandler::SigDfl | SigHandler::SigIgn) {
        // SAFETY: puts back what was there.
        unsafe { sigaction(ASK, &before)? };
    }
    Ok(())
}

extern "C" fn on_ask(_: c_int) {
    let errno = Errno::last_raw();
    note_frames();
    ANSWERED.store(true, Ordering::Release);
    Errno::set_raw(errno);
}

/// Walks the calling thread's stack without allocating or naming anything.
fn note_frames() {
    let mut depth = 0;
    // SAFETY: `trace_unsynchronized` asks that no other thread walks at the same time through this crate's lock-free
    // entry; `ASKING` lets one question through, and only the asked thread answers. In a handler the unwinder might
    // wait for the loader's lock if the thread was interrupted while loading a library; it is asked only after it
    // stood still for longer than it may, when the process is about to end, and the end does not wait for it.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            FRAMES[depth].store(frame.ip() as usize, Ordering::Relaxed);
            depth += 1;
            depth < DEPTH
        });
    }
    NOTED.store(depth, Ordering::Relaxed);
}

/// The stack of a thread of this process, and what the kernel says of it, as lines of text.
pub(super) fn of_thread(thread: libc::pid_t) -> String {
    let _one = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = kernel_view(thread);
    if ask(thread) {
        text.push_str(&names());
    } else {
        text.push_str(
            "\n  it did not answer a signal: it is inside the kernel, or the signal is handled by others",
        );
    }
    text
}

fn ask(thread: libc::pid_t) -> bool {
    ANSWERED.store(false, Ordering::Relaxed);
    // SAFETY: tgkill takes numbers only; a thread that is gone is an error.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, ASK as c_int) } == 0;
    let asked = Instant::now();
    while sent && asked.elapsed() < ANSWER {
        if ANSWERED.load(Ordering::Acquire) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Names of the noted frames, from the interrupted function outwards.
fn names() -> String {
    let mut lines = Vec::new();
    let (mut interrupted, mut trampoline_next) = (0, false);
    for frame in FRAMES.iter().take(NOTED.load(Ordering::Relaxed)) {
        // A return address is behind the call, which may be the last of its function.
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
    // The handler's own frames and the kernel's trampoline say nothing.
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

/// State, kernel function and system call of a thread, as far as the kernel tells.
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
    fn dozes_until_told(stop: &mpsc::Receiver<()>) {
        while stop.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
            std::hint::black_box(());
        }
    }

    #[test]
    fn the_stack_of_a_dozing_thread_names_its_function() {
        install().unwrap();
        let (stop, stopped) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(own_thread()).unwrap();
            dozes_until_told(&stopped);
        });
        let number = told.recv().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let stack = of_thread(number);
        assert!(stack.contains("dozes_until_told") && stack.contains("state "), "{stack}");
        assert!(!stack.contains("on_ask"), "{stack}");
        drop(stop);
        thread.join().unwrap();
        assert!(of_thread(number).contains("did not answer"));
    }
}
