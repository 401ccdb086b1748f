//! The parts of the C interfaces of NVRTC and of the CUDA driver that are used here. Nothing of them has changed since CUDA 11.1.

use super::error::CompiledError;
use nccl_rs::{LibraryRequest, LoadedLibrary};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const NVRTC: LibraryRequest = LibraryRequest {
    library: "NVRTC",
    variable: "LIFT_NVRTC",
    names: &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
    wheels: &["cu13", "cuda_nvrtc"],
    remedy: "install the wheel nvidia-cuda-nvrtc (or the CUDA toolkit), or set train.gpu_kernels=libtorch",
};

const DRIVER: LibraryRequest = LibraryRequest {
    library: "the CUDA driver",
    variable: "LIFT_CUDA_DRIVER",
    names: &["libcuda.so.1"],
    wheels: &[],
    remedy: "install NVIDIA's driver",
};

pub(super) type RawProgram = *mut c_void;
pub(super) type RawContext = *mut c_void;
pub(super) type RawModule = *mut c_void;
pub(super) type RawFunction = *mut c_void;
pub(super) type RawStream = *mut c_void;

macro_rules! table {
    ($(#[$doc:meta])* $table:ident { $($field:ident = $symbol:literal ($($argument:ty),*);)* }) => {
        $(#[$doc])*
        pub(super) struct $table {
            pub(super) library: LoadedLibrary,
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> c_int,)*
        }

        impl $table {
            fn load(library: LoadedLibrary) -> Result<Self, CompiledError> {
                // SAFETY: the types are those of CUDA's headers.
                $(let $field = unsafe { library.function($symbol) }?;)*
                Ok(Self { $($field,)* library })
            }
        }
    };
}

table! {
    /// NVRTC's functions.
    Nvrtc {
        create = "nvrtcCreateProgram" (
            *mut RawProgram, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char
        );
        destroy = "nvrtcDestroyProgram" (*mut RawProgram);
        compile = "nvrtcCompileProgram" (RawProgram, c_int, *const *const c_char);
        log_size = "nvrtcGetProgramLogSize" (RawProgram, *mut usize);
        log = "nvrtcGetProgramLog" (RawProgram, *mut c_char);
        cubin_size = "nvrtcGetCUBINSize" (RawProgram, *mut usize);
        cubin = "nvrtcGetCUBIN" (RawProgram, *mut c_char);
    }
}

table! {
    /// The driver's functions.
    Driver {
        init = "cuInit" (c_uint);
        device = "cuDeviceGet" (*mut c_int, c_int);
        attribute = "cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
        retain_context = "cuDevicePrimaryCtxRetain" (*mut RawContext, c_int);
        set_context = "cuCtxSetCurrent" (RawContext);
        load_module = "cuModuleLoadData" (*mut RawModule, *const c_void);
        function = "cuModuleGetFunction" (*mut RawFunction, RawModule, *const c_char);
        launch = "cuLaunchKernel" (
            RawFunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, RawStream,
            *mut *mut c_void, *mut *mut c_void
        );
        error_string = "cuGetErrorString" (c_int, *mut *const c_char);
    }
}

/// NVRTC, opened once.
pub(super) fn nvrtc() -> Result<&'static Nvrtc, CompiledError> {
    static NVRTC_LIBRARY: OnceLock<Result<Nvrtc, CompiledError>> = OnceLock::new();
    let opened = NVRTC_LIBRARY.get_or_init(|| {
        let nvrtc = Nvrtc::load(NVRTC.open()?)?;
        load_builtins(nvrtc.library.path());
        Ok(nvrtc)
    });
    opened.as_ref().map_err(Clone::clone)
}

/// The driver, opened and initialised once.
pub(super) fn driver() -> Result<&'static Driver, CompiledError> {
    static DRIVER_LIBRARY: OnceLock<Result<Driver, CompiledError>> = OnceLock::new();
    let opened = DRIVER_LIBRARY.get_or_init(|| {
        let driver = Driver::load(DRIVER.open()?)?;
        // SAFETY: takes a number that must be zero.
        driver.check("cuInit", unsafe { (driver.init)(0) })?;
        Ok(driver)
    });
    opened.as_ref().map_err(Clone::clone)
}

/// NVRTC opens `libnvrtc-builtins` by its name alone, and finds the one of its wheel only if it is loaded already. Without it,
/// a compilation fails with NVRTC's own words.
fn load_builtins(nvrtc: &Path) {
    let beside = nvrtc.canonicalize().unwrap_or_else(|_| nvrtc.to_owned());
    let entries = beside.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    let is_builtins = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libnvrtc-builtins.so")
    };
    for file in entries.flatten().map(|entry| entry.path()).filter(is_builtins) {
        // SAFETY: a library of NVRTC's data, without initialisers.
        if let Ok(library) = unsafe { libloading::Library::new(file) } {
            std::mem::forget(library);
        }
    }
}

impl Nvrtc {
    pub(super) fn check(&self, call: &'static str, code: c_int) -> Result<(), CompiledError> {
        type Text = unsafe extern "C" fn(c_int) -> *const c_char;
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the type is that of NVRTC's header.
        let text = unsafe { self.library.function::<Text>("nvrtcGetErrorString") };
        // SAFETY: the function returns a static text for every number.
        let message = text.map_or_else(|error| error.to_string(), |text| unsafe { read_text(text(code)) });
        Err(CompiledError::Nvrtc { call, code, message })
    }
}

impl Driver {
    pub(super) fn check(&self, call: &'static str, code: c_int) -> Result<(), CompiledError> {
        if code == 0 {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: the call writes null or a pointer to a static text.
        let message = unsafe {
            (self.error_string)(code, &raw mut text);
            read_text(text)
        };
        Err(CompiledError::Driver { call, code, message })
    }
}

/// Copies a C string; null becomes an empty string.
///
/// # Safety
/// `text` must be null or point to a null-terminated string.
unsafe fn read_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: guaranteed by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
