//! Loaded machine code, and its kernels.

use super::device::Gpu;
use super::error::CompiledError;
use super::libraries::{RawFunction, RawModule};
use std::ffi::{CString, c_uint, c_void};
use std::{fmt, ptr};

/// Machine code on a GPU. It is never unloaded.
pub struct Module {
    gpu: Gpu,
    raw: RawModule,
}

impl Module {
    /// Loads what [`compile`](super::compile) has made for the architecture of `gpu`.
    pub fn load(gpu: Gpu, cubin: &[u8]) -> Result<Self, CompiledError> {
        gpu.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the image is whole and says itself how long it is; the driver copies it and writes one handle.
        let code = unsafe { (gpu.driver.load_module)(&raw mut raw, cubin.as_ptr().cast()) };
        gpu.driver.check("cuModuleLoadData", code)?;
        Ok(Self { gpu, raw })
    }

    /// The kernel of this name.
    pub fn kernel(&self, name: &'static str) -> Result<Kernel, CompiledError> {
        let text = CString::new(name).unwrap_or_default();
        let mut function = ptr::null_mut();
        // SAFETY: the module is loaded, and the call writes one handle, or returns an error for an unknown name.
        let code = unsafe { (self.gpu.driver.function)(&raw mut function, self.raw, text.as_ptr()) };
        self.gpu.driver.check("cuModuleGetFunction", code)?;
        Ok(Kernel { gpu: self.gpu, function, name })
    }
}

/// Blocks of a launch, and the threads of each: `[x, y]`.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Number of blocks.
    pub blocks: u32,
    /// Threads of a block.
    pub threads: [u32; 2],
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub enum Argument {
    /// An address on the GPU.
    Address(*const c_void),
    /// `long long`.
    Int(i64),
    /// `float`.
    Float(f32),
}

/// A kernel of a module.
#[derive(Clone, Copy)]
pub struct Kernel {
    gpu: Gpu,
    function: RawFunction,
    name: &'static str,
}

impl Kernel {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Queues the kernel in the stream of libtorch.
    ///
    /// # Safety
    /// Number and types of the arguments must be those of the kernel, and its threads may access only memory of the GPU that
    /// the caller holds. libtorch keeps freed memory for its stream, so the tensors may be dropped after the call.
    pub unsafe fn launch(&self, grid: Grid, arguments: &[Argument]) -> Result<(), CompiledError> {
        self.gpu.enter()?;
        let stream = self.gpu.stream()?;
        let mut words: Vec<u64> = arguments.iter().map(|argument| argument.word()).collect();
        let mut pointers: Vec<*mut c_void> =
            words.iter_mut().map(|word| ptr::from_mut(word).cast()).collect();
        let [x, y] = grid.threads;
        let shared: c_uint = 0;
        // SAFETY: each pointer is to a value at least as large as the kernel's parameter, which the caller guarantees; the
        // driver copies the values before it returns.
        let code = unsafe {
            (self.gpu.driver.launch)(
                self.function,
                grid.blocks,
                1,
                1,
                x,
                y,
                1,
                shared,
                stream,
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        self.gpu.driver.check("cuLaunchKernel", code)
    }
}

impl Argument {
    /// Its bytes at the beginning of a word: CUDA's hosts are little-endian.
    fn word(self) -> u64 {
        match self {
            Self::Address(address) => address as u64,
            Self::Int(value) => value.cast_unsigned(),
            Self::Float(value) => u64::from(value.to_bits()),
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
