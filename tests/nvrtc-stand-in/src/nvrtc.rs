//! The functions of NVRTC. A program becomes a shared library, by the C++ compiler of this machine.

use crate::fault;
use std::ffi::{CStr, c_char, c_int};
use std::fmt::Write;
use std::process::Command;
use std::{fs, io, slice};

const SUCCESS: c_int = 0;
const INVALID_INPUT: c_int = 3;
const INVALID_OPTION: c_int = 5;
const COMPILATION: c_int = 6;

/// The language of the kernels for a CPU.
const EMULATOR: &str = include_str!("../emulator/cuda.h");
/// What the machine code of this stand-in begins with; its length follows as 8 bytes.
pub(crate) const MARK: &[u8; 8] = b"STAND-IN";

pub(crate) struct Program {
    name: String,
    source: String,
    log: String,
    library: Vec<u8>,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcCreateProgram(
    program: *mut *mut Program,
    source: *const c_char,
    name: *const c_char,
    headers: c_int,
    _texts: *const *const c_char,
    _names: *const *const c_char,
) -> c_int {
    if headers != 0 {
        return INVALID_INPUT;
    }
    // SAFETY: the program passes null-terminated texts.
    let (source, name) = unsafe { (text(source), text(name)) };
    let created = Box::new(Program { name, source, log: String::new(), library: Vec::new() });
    // SAFETY: the program passes a pointer to one handle.
    unsafe { program.write(Box::into_raw(created)) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcDestroyProgram(program: *mut *mut Program) -> c_int {
    // SAFETY: the handle comes from nvrtcCreateProgram and is destroyed once.
    drop(unsafe { Box::from_raw(*program) });
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcCompileProgram(
    program: *mut Program,
    number: c_int,
    options: *const *const c_char,
) -> c_int {
    // SAFETY: the program passes as many null-terminated texts as the number says.
    let options: Vec<String> = unsafe {
        slice::from_raw_parts(options, number as usize).iter().map(|&option| text(option)).collect()
    };
    // SAFETY: the handle is alive.
    let program = unsafe { &mut *program };
    let mut definitions = Vec::new();
    for option in &options {
        match option.split_once('=') {
            Some(("--define-macro", definition)) => definitions.push(definition.to_owned()),
            Some(("--gpu-architecture", _) | ("--std", "c++17")) => {}
            _ => {
                program.log = format!("nvrtc: error: invalid value for {option}");
                return INVALID_OPTION;
            }
        }
    }
    match program.compile(&definitions) {
        Ok(true) => SUCCESS,
        Ok(false) => COMPILATION,
        Err(error) => {
            program.log = format!("the C++ compiler does not run: {error}");
            COMPILATION
        }
    }
}

impl Program {
    /// False, with a log, if the compiler refuses the source.
    fn compile(&mut self, definitions: &[String]) -> io::Result<bool> {
        let folder = tempfile::tempdir()?;
        let [header, source, library] =
            ["cuda.h", "kernels.cpp", "kernels.so"].map(|name| folder.path().join(name));
        fs::write(&header, EMULATOR)?;
        fs::write(&source, self.as_cpp())?;
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let mut command = Command::new(compiler);
        // Fortified jumps refuse to leave a stack, which is what fibers do.
        command.args([
            "-std=c++17",
            "-O1",
            "-w",
            "-fPIC",
            "-shared",
            "-U_FORTIFY_SOURCE",
            "-ffp-contract=off",
        ]);
        command.args(definitions.iter().map(|definition| format!("-D{definition}")));
        if fault() == "wrong" {
            command.arg("-DEMULATOR_WRONG");
        }
        let output = command.arg("-o").arg(&library).arg(&source).output()?;
        self.log = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            self.library = fs::read(&library)?;
        }
        Ok(output.status.success())
    }

    /// The source with the emulator before it, and after it a function that launches each kernel.
    fn as_cpp(&self) -> String {
        let mut cpp = String::from("#include \"cuda.h\"\n");
        if fault() == "compile" {
            cpp.push_str("#error a fault that a test has planted\n");
        }
        // The log then names the lines of the source.
        let _ = writeln!(cpp, "#line 1 \"{}\"\n{}", self.name, self.source);
        for kernel in self.kernels() {
            let _ = writeln!(
                cpp,
                "extern \"C\" void emulate_{kernel}(const unsigned *grid, const unsigned *threads, void **values) {{ emulator::launch({kernel}, grid, threads, values); }}"
            );
            let _ = writeln!(
                cpp,
                "extern \"C\" unsigned parameters_of_{kernel}() {{ return emulator::parameters({kernel}); }}"
            );
        }
        cpp
    }

    /// Names of the kernels in the source.
    fn kernels(&self) -> Vec<&str> {
        let after = self.source.split("__global__ void ").skip(1);
        after.filter_map(|rest| rest.split_once('(').map(|(name, _)| name.trim())).collect()
    }

    fn machine_code(&self) -> Vec<u8> {
        [&MARK[..], &(self.library.len() as u64).to_le_bytes(), &self.library].concat()
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetProgramLogSize(program: *const Program, size: *mut usize) -> c_int {
    // SAFETY: the handle is alive.
    let program = unsafe { &*program };
    // SAFETY: the program passes a pointer to one number.
    unsafe { size.write(program.log.len() + 1) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetProgramLog(program: *const Program, log: *mut u8) -> c_int {
    // SAFETY: the handle is alive.
    let text = unsafe { &(*program).log };
    // SAFETY: the program passes a buffer of the size that it asked for.
    unsafe {
        log.copy_from_nonoverlapping(text.as_ptr(), text.len());
        log.add(text.len()).write(0);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetCUBINSize(program: *const Program, size: *mut usize) -> c_int {
    // SAFETY: the handle is alive.
    let program = unsafe { &*program };
    // SAFETY: the program passes a pointer to one number.
    unsafe { size.write(program.machine_code().len()) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetCUBIN(program: *const Program, cubin: *mut u8) -> c_int {
    // SAFETY: the handle is alive.
    let code = unsafe { &*program }.machine_code();
    // SAFETY: the program passes a buffer of the size that it asked for.
    unsafe { cubin.copy_from_nonoverlapping(code.as_ptr(), code.len()) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetErrorString(code: c_int) -> *const c_char {
    match code {
        SUCCESS => c"NVRTC_SUCCESS",
        INVALID_INPUT => c"NVRTC_ERROR_INVALID_INPUT",
        INVALID_OPTION => c"NVRTC_ERROR_INVALID_OPTION",
        COMPILATION => c"NVRTC_ERROR_COMPILATION",
        _ => c"NVRTC_ERROR unknown",
    }
    .as_ptr()
}

/// # Safety
/// `text` must point to a null-terminated string.
unsafe fn text(text: *const c_char) -> String {
    // SAFETY: guaranteed by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
