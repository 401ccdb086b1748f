//! The functions of the CUDA driver, with one device, whose memory is that of the host.
//!
//! As the real driver, it refuses a call before `cuInit`, and a module or a launch on a thread without a context.

use crate::fault;
use crate::nvrtc::MARK;
use libloading::Library;
use libloading::os::unix;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{ptr, slice};

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const NOT_INITIALIZED: c_int = 3;
const INVALID_DEVICE: c_int = 101;
const INVALID_IMAGE: c_int = 200;
const INVALID_CONTEXT: c_int = 201;
const NOT_FOUND: c_int = 500;
const LAUNCH_FAILED: c_int = 719;

/// The capability of a Hopper.
const CAPABILITY: [(c_int, c_int); 2] = [(75, 9), (76, 0)];
/// The most threads of a block.
const MOST_THREADS: u32 = 1024;

static INITIALIZED: AtomicBool = AtomicBool::new(false);
/// The primary context: its address is the handle.
static CONTEXT: u8 = 0;

thread_local! {
    static CURRENT: Cell<*const c_void> = const { Cell::new(std::ptr::null()) };
}

type Launch = unsafe extern "C" fn(*const c_uint, *const c_uint, *mut *mut c_void);
type Parameters = unsafe extern "C" fn() -> c_uint;

/// A kernel of a loaded module.
pub(crate) struct Function {
    launch: Launch,
    parameters: usize,
    name: CString,
}

/// A kernel with the values of its parameters, one a word: a graph starts it after the launch has returned.
struct Launched {
    launch: Launch,
    blocks: [c_uint; 3],
    threads: [c_uint; 3],
    words: Vec<u64>,
}

impl Launched {
    /// Runs the kernel.
    ///
    /// # Safety
    /// `launched` must come from [`started`] and be alive.
    unsafe extern "C" fn run(launched: *const c_void) {
        // SAFETY: guaranteed by the caller.
        let Self { launch, blocks, threads, words } = unsafe { &*launched.cast::<Self>() };
        let mut values: Vec<*mut c_void> =
            words.iter().map(|word| ptr::from_ref(word).cast_mut().cast()).collect();
        // SAFETY: the words are values of the types of the kernel's parameters, which it reads only.
        unsafe { launch(blocks.as_ptr(), threads.as_ptr(), values.as_mut_ptr()) };
    }

    /// Frees it.
    ///
    /// # Safety
    /// `launched` must come from [`started`], and is not used any more.
    unsafe extern "C" fn free(launched: *mut c_void) {
        // SAFETY: guaranteed by the caller.
        drop(unsafe { Box::from_raw(launched.cast::<Self>()) });
    }
}

fn initialized(call: impl FnOnce() -> c_int) -> c_int {
    if INITIALIZED.load(Ordering::Relaxed) { call() } else { NOT_INITIALIZED }
}

fn in_context(call: impl FnOnce() -> c_int) -> c_int {
    initialized(|| if CURRENT.get().is_null() { INVALID_CONTEXT } else { call() })
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> c_int {
    INITIALIZED.store(flags == 0, Ordering::Relaxed);
    if flags == 0 { SUCCESS } else { INVALID_VALUE }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    initialized(|| {
        // SAFETY: the program passes a pointer to one number.
        unsafe { device.write(ordinal) };
        if ordinal == 0 { SUCCESS } else { INVALID_DEVICE }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) -> c_int {
    initialized(|| {
        let Some((_, found)) = CAPABILITY.iter().find(|(known, _)| *known == attribute) else {
            return INVALID_VALUE;
        };
        // SAFETY: the program passes a pointer to one number.
        unsafe { value.write(*found) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *const c_void, _device: c_int) -> c_int {
    initialized(|| {
        // SAFETY: the program passes a pointer to one handle.
        unsafe { context.write((&raw const CONTEXT).cast()) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: *const c_void) -> c_int {
    initialized(|| {
        CURRENT.set(context);
        SUCCESS
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(module: *mut *mut Library, image: *const u8) -> c_int {
    in_context(|| {
        // SAFETY: every image has at least the 64 bytes of a header, and the stand-in's says how long it is.
        let library = unsafe {
            if slice::from_raw_parts(image, MARK.len()) != MARK {
                return INVALID_IMAGE;
            }
            let length = image.add(MARK.len()).cast::<[u8; 8]>().read();
            slice::from_raw_parts(image.add(2 * MARK.len()), u64::from_le_bytes(length) as usize)
        };
        let Some(loaded) = load(library) else { return INVALID_IMAGE };
        // SAFETY: the program passes a pointer to one handle.
        unsafe { module.write(Box::into_raw(Box::new(loaded))) };
        SUCCESS
    })
}

/// Loads a shared library from its bytes.
fn load(bytes: &[u8]) -> Option<Library> {
    let mut file = tempfile::Builder::new().suffix(".so").tempfile().ok()?;
    file.write_all(bytes).ok()?;
    // SAFETY: the compiler of this stand-in made the library, which has no initialisers with conditions.
    unsafe { Library::new(file.path()) }.ok()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(
    function: *mut *mut Function,
    module: *const Library,
    name: *const c_char,
) -> c_int {
    in_context(|| {
        // SAFETY: the program passes a null-terminated text.
        let name = unsafe { CStr::from_ptr(name) };
        let symbol = format!("emulate_{}", name.to_string_lossy());
        // SAFETY: the module is loaded, and the compiler gives these functions this type.
        let Ok(launch) = (unsafe { (*module).get::<Launch>(symbol.as_bytes()).map(|symbol| *symbol) }) else {
            return NOT_FOUND;
        };
        let symbol = format!("parameters_of_{}", name.to_string_lossy());
        // SAFETY: as above.
        let Ok(parameters) = (unsafe { (*module).get::<Parameters>(symbol.as_bytes()).map(|count| count()) })
        else {
            return NOT_FOUND;
        };
        let found = Function { launch, parameters: parameters as usize, name: name.to_owned() };
        // SAFETY: the program passes a pointer to one handle.
        unsafe { function.write(Box::into_raw(Box::new(found))) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "the driver's function has these")]
unsafe extern "C" fn cuLaunchKernel(
    function: *const Function,
    blocks_x: c_uint,
    blocks_y: c_uint,
    blocks_z: c_uint,
    threads_x: c_uint,
    threads_y: c_uint,
    threads_z: c_uint,
    _shared: c_uint,
    _stream: *mut c_void,
    values: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> c_int {
    in_context(|| {
        let (blocks, threads) = ([blocks_x, blocks_y, blocks_z], [threads_x, threads_y, threads_z]);
        if blocks.contains(&0) || !(1..=MOST_THREADS).contains(&threads.iter().product::<u32>()) {
            return INVALID_VALUE;
        }
        if fault() == "launch" {
            return LAUNCH_FAILED;
        }
        // SAFETY: the handle comes from cuModuleGetFunction.
        let Function { launch, parameters, name } = unsafe { &*function };
        // SAFETY: the program passes a value for each parameter. The trainer gives each one a whole word.
        let words = unsafe {
            slice::from_raw_parts(values, *parameters)
                .iter()
                .map(|value| value.cast::<u64>().read())
                .collect()
        };
        started(name, Launched { launch: *launch, blocks, threads, words });
        SUCCESS
    })
}

/// Gives a kernel to the stand-in for libtorch's CUDA part, if the program has it: that waits for the stream, counts the kernel, and
/// runs it or records it for a graph.
fn started(kernel: &CStr, launched: Launched) {
    type Run = unsafe extern "C" fn(*const c_void);
    type Free = unsafe extern "C" fn(*mut c_void);
    type Started = unsafe extern "C" fn(*const c_char, Run, Free, *mut c_void);
    static STARTED: OnceLock<Option<Started>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        // SAFETY: the stand-in's function has this type; the real library has none of this name.
        unsafe { unix::Library::this().get::<Started>(b"cuda_stand_in_kernel").ok().map(|symbol| *symbol) }
    });
    let launched: *mut c_void = Box::into_raw(Box::new(launched)).cast();
    // SAFETY: the text lives for the call; the launch is freed once, by the stand-in or here.
    unsafe {
        if let Some(started) = started {
            started(kernel.as_ptr(), Launched::run, Launched::free, launched);
        } else {
            Launched::run(launched);
            Launched::free(launched);
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    let message = match code {
        SUCCESS => c"no error",
        INVALID_VALUE => c"invalid argument",
        NOT_INITIALIZED => c"initialization error",
        INVALID_DEVICE => c"invalid device ordinal (the stand-in has device 0 only)",
        INVALID_IMAGE => c"device kernel image is invalid",
        INVALID_CONTEXT => c"invalid device context",
        NOT_FOUND => c"named symbol not found",
        LAUNCH_FAILED => c"unspecified launch failure",
        _ => c"unknown error",
    };
    // SAFETY: the program passes a pointer to one text.
    unsafe { text.write(message.as_ptr()) };
    SUCCESS
}
