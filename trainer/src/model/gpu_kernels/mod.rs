//! Kernels of our own for a GPU: norms and residual additions, each in one pass over memory.
//!
//! libtorch computes a norm in fp32 and casts its output in a second pass, and adds attention, MLP and adapter in further
//! ones. Such operations wait for memory only, so that their time is the number of their passes. The kernels are in the files
//! beside this one, in plain CUDA C++, and are compiled at run time for the sizes and element types of the run. Their backward
//! passes are cut out of autograd's graph ([`BlockGraph`](super::graph::BlockGraph)).

mod operations;

pub use operations::ScaledNorm;

use crate::cuda::{Argument, CompiledError, Gpu, Grid, Kernel, Module, Program, compile};
use std::fmt;
use tch::{Device, Kind, Tensor};

/// The source, as one program.
const SOURCE: &str =
    concat!(include_str!("elements.cu"), include_str!("layer_norm.cu"), include_str!("residual.cu"));
/// Its name in messages of the compiler.
const NAME: &str = "lift.cu";
/// Threads of a warp, which has one row.
const LANES: u32 = 32;
/// Rows of a block.
const ROWS: u32 = 4;
/// Bytes to whose multiples the kernels' vectors are aligned.
const ALIGNMENT: usize = 16;

/// What the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTypes {
    /// Element type of the residual stream: fp32 or bf16.
    pub stream: Kind,
    /// Element type of matrix products: fp32, bf16 or fp16.
    pub compute: Kind,
    /// Numbers in a row.
    pub width: i64,
}

impl RowTypes {
    fn definitions(self) -> Option<[(&'static str, String); 3]> {
        let (stream, compute) = (element(self.stream)?, element(self.compute)?);
        Some([
            ("STREAM", stream.to_owned()),
            ("COMPUTE", compute.to_owned()),
            ("WIDTH", self.width.to_string()),
        ])
    }

    /// Whether there are kernels for these types.
    pub fn are_served(self) -> bool {
        self.definitions().is_some() && self.width > 0
    }
}

impl fmt::Display for RowTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows of {} {:?}, products in {:?}", self.width, self.stream, self.compute)
    }
}

/// The name of an element type in the source.
fn element(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Float => Some("float"),
        Kind::BFloat16 => Some("Bf16"),
        Kind::Half => Some("Fp16"),
        _ => None,
    }
}

/// The machine code of the kernels for an architecture; none for element types without kernels.
pub fn compiled(types: RowTypes, architecture: &str) -> Option<Result<Vec<u8>, CompiledError>> {
    let definitions = types.definitions()?;
    Some(compile(&Program { name: NAME, source: SOURCE, definitions: &definitions }, architecture))
}

/// The kernels of a run, on its GPU.
#[derive(Debug, Clone, Copy)]
pub struct GpuKernels {
    gpu: Gpu,
    types: RowTypes,
    device: Device,
    layer_norm: [Kernel; 2],
    residual_layer_norm: [Kernel; 2],
    residual_sum: [Kernel; 2],
}

impl GpuKernels {
    /// Compiles the kernels for a GPU, and loads them there. None for element types without kernels.
    pub fn load(index: usize, types: RowTypes) -> Option<Result<Self, CompiledError>> {
        if !types.are_served() {
            return None;
        }
        let load = || {
            let gpu = Gpu::open(index)?;
            let machine_code = match compiled(types, &gpu.architecture()) {
                Some(machine_code) => machine_code?,
                None => return Ok(None),
            };
            let module = Module::load(gpu, &machine_code)?;
            let pair = |forward, backward| -> Result<_, CompiledError> {
                Ok([module.kernel(forward)?, module.kernel(backward)?])
            };
            Ok(Some(Self {
                gpu,
                types,
                device: Device::Cuda(index),
                layer_norm: pair("layer_norm_cast", "layer_norm_cast_backward")?,
                residual_layer_norm: pair("residual_layer_norm", "residual_layer_norm_backward")?,
                residual_sum: pair("residual_sum", "residual_sum_backward")?,
            }))
        };
        load().transpose()
    }

    /// What they are compiled for.
    pub fn types(&self) -> RowTypes {
        self.types
    }

    /// Where they compute.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The architecture that they are compiled for, e.g. `sm_90`.
    pub fn architecture(&self) -> String {
        self.gpu.architecture()
    }

    /// Whether `x` is a matrix of their rows in this element type, and not empty.
    fn serves(&self, x: &Tensor, kind: Kind) -> bool {
        x.device() == self.device
            && x.kind() == kind
            && x.size().last() == Some(&self.types.width)
            && x.numel() > 0
    }

    fn rows(&self, x: &Tensor) -> i64 {
        x.numel() as i64 / self.types.width
    }

    /// Memory for rows like those of `x`, in another element type.
    fn like(&self, x: &Tensor, kind: Kind) -> Tensor {
        Tensor::empty(x.size(), (kind, self.device))
    }

    /// Queues a kernel that computes one row in each warp.
    ///
    /// # Panics
    /// As every operation of tch: if the driver refuses, with its message.
    fn launch(kernel: Kernel, rows: i64, arguments: &[Argument]) {
        let blocks = rows.cast_unsigned().div_ceil(u64::from(ROWS)) as u32;
        let grid = Grid { blocks, threads: [LANES, ROWS] };
        // SAFETY: the operations beside this file pass the arguments that the source declares, and tensors of as many rows.
        let launched = unsafe { kernel.launch(grid, arguments) };
        if let Err(error) = launched {
            panic!("the kernel `{}` failed: {error}", kernel.name());
        }
    }
}

/// The values outside of any graph, as the kernels read them: one row after the other, aligned.
fn ready(x: &Tensor) -> Tensor {
    let x = x.detach().contiguous();
    if x.data_ptr().addr().is_multiple_of(ALIGNMENT) { x } else { x.copy() }
}

/// The address of a tensor that is [`ready`], or new.
fn address(x: &Tensor) -> Argument {
    Argument::Address(x.data_ptr())
}

/// The same, or null.
fn address_or_null(x: Option<&Tensor>) -> Argument {
    x.map_or(Argument::Address(std::ptr::null()), address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NVRTC needs no GPU to compile.
    #[test]
    fn nvrtc_compiles_every_kernel_for_gpus_since_ampere() {
        if std::env::var_os("LIFT_NVRTC").is_none() {
            println!(
                "skipped: nvrtc_compiles_every_kernel_for_gpus_since_ampere (LIFT_NVRTC names no libnvrtc)"
            );
            return;
        }
        for architecture in ["sm_80", "sm_90", "sm_100"] {
            for stream in [Kind::Float, Kind::BFloat16] {
                for compute in [Kind::Float, Kind::BFloat16, Kind::Half] {
                    let widths: &[i64] = if architecture == "sm_90" { &[768, 37, 5000] } else { &[1024] };
                    for &width in widths {
                        let types = RowTypes { stream, compute, width };
                        let machine_code = compiled(types, architecture).unwrap();
                        let machine_code = machine_code.unwrap_or_else(|error| panic!("{types}: {error}"));
                        println!("{architecture}, {types}: {} bytes", machine_code.len());
                        assert!(machine_code.starts_with(b"\x7fELF"));
                    }
                }
            }
        }
    }

    #[test]
    fn double_precision_has_no_kernels() {
        let types = RowTypes { stream: Kind::Double, compute: Kind::Double, width: 768 };
        assert!(!types.are_served());
        assert!(GpuKernels::load(0, types).is_none());
    }
}
