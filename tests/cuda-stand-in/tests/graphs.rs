//! What the stand-in's CUDA graphs record, and what they refuse, in the words of the real library.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tch::{Device, Kind, Tensor};

/// The stand-in of this build, opened as the trainer opens libtorch's CUDA part.
fn library() -> &'static Library {
    static OPENED: OnceLock<Library> = OnceLock::new();
    OPENED.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let path = own.ancestors().nth(2).unwrap().join("libcuda_stand_in.so");
        assert!(path.exists(), "{} is missing: run `make build` first", path.display());
        // SAFETY: its initialisers register a device with libtorch and nothing else.
        unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.unwrap()
    })
}

/// One capture at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A graph of the stand-in; each action returns the first line of a refusal.
struct Graph(*mut c_void);

const BEGIN: c_int = 0;
const BEGIN_ON_DEFAULT: c_int = 1;
const END: c_int = 2;
const REPLAY: c_int = 3;
const FREE: c_int = 4;

impl Graph {
    fn act(&mut self, action: c_int) -> Result<(), String> {
        type Act = unsafe extern "C" fn(*mut *mut c_void, c_int) -> *const c_char;
        // SAFETY: that is its type in `cpp/capture.cpp`. It catches what CUDA's graphs throw, and its text lives until the next
        // call of this thread.
        let said = unsafe { library().get::<Act>(b"cuda_stand_in_graph").unwrap()(&raw mut self.0, action) };
        if said.is_null() {
            return Ok(());
        }
        // SAFETY: as above.
        let text = unsafe { CStr::from_ptr(said) }.to_string_lossy();
        Err(text.lines().next().unwrap().to_owned())
    }

    /// Records `work` in a stream of the pool.
    fn captured<T>(work: impl FnOnce() -> T) -> (Self, T) {
        let mut graph = Self(ptr::null_mut());
        graph.act(BEGIN).unwrap();
        let done = work();
        graph.act(END).unwrap();
        (graph, done)
    }

    fn replay(&mut self) {
        self.act(REPLAY).unwrap();
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.act(FREE).unwrap();
    }
}

fn numbers(values: &[f32]) -> Tensor {
    library();
    Tensor::from_slice(values).to_device(Device::Cuda(0))
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_device(Device::Cpu)).unwrap()
}

#[test]
fn a_capture_computes_nothing_and_a_replay_reads_the_present_numbers() {
    let _turn = turn();
    let (mut x, mut sum) = (numbers(&[1.0, 2.0]), numbers(&[10.0, 10.0]));
    let (mut graph, y) = Graph::captured(|| {
        let y = (&x * 3.0).exp().log() + 1.0;
        let _ = sum.g_add_(&y);
        y
    });
    assert!(values(&y).iter().all(|value| value.is_nan()), "{:?}", values(&y));
    assert_eq!(values(&sum), [10.0, 10.0]);
    graph.replay();
    x.copy_(&numbers(&[2.0, 3.0]));
    graph.replay();
    assert_eq!(values(&y), [7.0, 10.0]);
    assert_eq!(values(&sum), [21.0, 27.0]);
}

/// autograd computes on threads of its own, in the stream of the forward pass.
#[test]
fn a_backward_pass_is_captured_and_memory_that_was_freed_meanwhile_stays_valid() {
    let _turn = turn();
    let weight = numbers(&[1.0, 2.0, 3.0]).set_requires_grad(true);
    weight.sum(Kind::Float).backward();
    let (mut gradient, x) = (weight.grad(), numbers(&[1.0, 1.0, 1.0]));
    let (mut graph, ()) = Graph::captured(|| {
        // What the backward pass needs is freed when it ends.
        (&weight * &x).exp().log().sum(Kind::Float).backward();
    });
    assert_eq!(values(&gradient), [1.0, 1.0, 1.0]);
    let _ = gradient.zero_();
    let mut input = x.shallow_clone();
    input.copy_(&numbers(&[2.0, 4.0, 6.0]));
    graph.replay();
    graph.replay();
    assert_eq!(values(&gradient), [4.0, 8.0, 12.0]);
}

#[test]
fn a_number_of_the_host_is_kept_as_it_was() {
    let _turn = turn();
    let (x, mut factor) = (numbers(&[1.0]), Tensor::from(2.0_f32));
    let (mut graph, y) = Graph::captured(|| &x * &factor);
    let _ = factor.fill_(5.0);
    graph.replay();
    assert_eq!(values(&y), [2.0]);
}

/// What is said about an operation under capture, and about the end of that capture.
fn refused(work: impl FnOnce() -> Result<Tensor, tch::TchError>) -> (String, String) {
    let mut graph = Graph(ptr::null_mut());
    graph.act(BEGIN).unwrap();
    let said = work().unwrap_err().to_string();
    let ended = graph.act(END).unwrap_err();
    (said.lines().next().unwrap().to_owned(), ended)
}

#[test]
fn what_a_capture_cannot_contain_is_refused() {
    let _turn = turn();
    let (x, mut place) = (numbers(&[1.0, 0.0]), numbers(&[0.0, 0.0]));
    let host = Tensor::from_slice(&[1.0_f32, 2.0]);
    let index = Tensor::from_slice(&[0_i64]);
    let not_permitted = |what: &str| {
        format!("Internal torch error: CUDA error: operation not permitted when stream is capturing ({what})")
    };
    let copy = not_permitted("a copy between host and device");
    for (expected, found) in [
        (copy.clone(), refused(|| x.f_to_device(Device::Cpu))),
        (copy.clone(), refused(|| place.f_add_(&host.f_to_device(Device::Cuda(0))?))),
        (not_permitted("nonzero"), refused(|| x.f_nonzero())),
        (copy, refused(|| x.f_index(&[Some(index.shallow_clone())]))),
    ] {
        let ended = "CUDA error: operation failed due to a previous error during capture".to_owned();
        assert_eq!(found, (expected, ended));
    }
    assert_eq!(values(&x), [1.0, 0.0]);
}

#[test]
fn the_default_stream_is_not_captured() {
    let _turn = turn();
    library();
    let mut graph = Graph(ptr::null_mut());
    let said = graph.act(BEGIN_ON_DEFAULT).unwrap_err();
    assert!(said.starts_with("CUDA graphs must be captured on a non-default stream."), "{said}");
}

/// On a GPU the replay would read what took its place.
#[test]
fn a_replay_that_uses_memory_of_others_that_is_free_is_refused() {
    let _turn = turn();
    let x = numbers(&[1.0]);
    let (mut graph, _y) = Graph::captured(|| &x * 2.0);
    graph.replay();
    drop(x);
    let said = graph.act(REPLAY).unwrap_err();
    assert_eq!(said, "a CUDA graph uses memory that was allocated outside of its capture and is free now");
}
