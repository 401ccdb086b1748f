//! From CUDA C++ to the machine code of one architecture.

use super::error::CompiledError;
use super::libraries::{Nvrtc, RawProgram, nvrtc};
use std::ffi::{CString, c_char, c_int};
use std::ptr;

/// A source in CUDA C++.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// The text.
    pub source: &'a str,
    /// Names that the preprocessor replaces, each with its value.
    pub definitions: &'a [(&'a str, String)],
}

/// Compiles for an architecture, e.g. `sm_90`. The machine code needs no compilation by the driver, which may be older than
/// NVRTC.
pub fn compile(program: &Program<'_>, architecture: &str) -> Result<Vec<u8>, CompiledError> {
    let nvrtc = nvrtc()?;
    let compilation = Compilation::new(nvrtc, program)?;
    let mut options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
    options.extend(program.definitions.iter().map(|(name, value)| format!("--define-macro={name}={value}")));
    let options: Vec<CString> = options.iter().map(|option| text(option)).collect();
    let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    // SAFETY: the program is alive, and the options are as many texts as the number says.
    let code = unsafe { (nvrtc.compile)(compilation.program, pointers.len() as c_int, pointers.as_ptr()) };
    if code != 0 {
        return Err(CompiledError::Source {
            library: nvrtc.library.path().display().to_string(),
            program: program.name.to_owned(),
            architecture: architecture.to_owned(),
            log: compilation.log(),
        });
    }
    compilation.cubin()
}

/// The file of NVRTC, if it is found.
pub fn compiler_file() -> Option<String> {
    nvrtc().ok().map(|nvrtc| nvrtc.library.path().display().to_string())
}

struct Compilation<'a> {
    nvrtc: &'a Nvrtc,
    program: RawProgram,
}

impl<'a> Compilation<'a> {
    fn new(nvrtc: &'a Nvrtc, program: &Program<'_>) -> Result<Self, CompiledError> {
        let (source, name) = (text(program.source), text(program.name));
        let mut raw = ptr::null_mut();
        // SAFETY: the texts live for the call, which copies them and writes one handle; there are no headers.
        let code = unsafe {
            (nvrtc.create)(&raw mut raw, source.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null())
        };
        nvrtc.check("nvrtcCreateProgram", code)?;
        Ok(Self { nvrtc, program: raw })
    }

    fn log(&self) -> String {
        let mut size = 0;
        // SAFETY: the program is alive, and the call writes one number.
        if unsafe { (self.nvrtc.log_size)(self.program, &raw mut size) } != 0 {
            return String::new();
        }
        let mut log = vec![0u8; size];
        // SAFETY: the buffer has the size that the library asked for.
        unsafe { (self.nvrtc.log)(self.program, log.as_mut_ptr().cast()) };
        String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned()
    }

    fn cubin(&self) -> Result<Vec<u8>, CompiledError> {
        let mut size = 0;
        // SAFETY: the program is alive, and the call writes one number.
        let code = unsafe { (self.nvrtc.cubin_size)(self.program, &raw mut size) };
        self.nvrtc.check("nvrtcGetCUBINSize", code)?;
        let mut cubin = vec![0u8; size];
        // SAFETY: the buffer has the size that the library asked for.
        let code = unsafe { (self.nvrtc.cubin)(self.program, cubin.as_mut_ptr().cast()) };
        self.nvrtc.check("nvrtcGetCUBIN", code)?;
        Ok(cubin)
    }
}

impl Drop for Compilation<'_> {
    fn drop(&mut self) {
        // SAFETY: the program came from the library and is destroyed once.
        unsafe { (self.nvrtc.destroy)(&raw mut self.program) };
    }
}

/// A text without zero bytes as C has it. The texts here are of the program, which has none.
fn text(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}
