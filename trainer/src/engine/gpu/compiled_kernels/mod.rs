//! `train.gpu_kernels = "compiled"`: compiles the kernels at the start, and checks them beside libtorch before the run uses them.

mod check;

use crate::config::{Config, GpuKernelsName, KernelsName};
use crate::cuda::{CompiledError, compiler_file};
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::precision;
use crate::model::gpu_kernels::{GpuKernels, RowTypes};
use crate::model::tower::TowerShape;
use check::{Difference, Timing};
use tch::{Device, Kind};

/// The most rows of the check: more say no more, and need memory that the run has not got yet.
const MOST_ROWS: i64 = 1 << 15;

/// Why the kernels are not available.
#[derive(Debug, thiserror::Error)]
enum KernelsError {
    /// They are kernels of a GPU.
    #[error(
        "`train.gpu_kernels = \"compiled\"` needs a GPU, and this rank computes on the CPU\nhint: set train.gpu_kernels=libtorch"
    )]
    OnCpu,
    /// Plain means the operations of libtorch.
    #[error(
        "`train.gpu_kernels = \"compiled\"` contradicts `train.kernels = \"plain\"`, the operations of libtorch\nhint: set train.gpu_kernels=libtorch"
    )]
    Plain,
    /// There is no source for these types.
    #[error(
        "`train.gpu_kernels = \"compiled\"` computes in fp32, bf16 and fp16, found {0:?}\nhint: set train.gpu_kernels=libtorch"
    )]
    Precision(Kind),
    /// A library is missing, or refuses the kernels.
    #[error("`train.gpu_kernels = \"compiled\"`: {0}")]
    Compiled(#[from] CompiledError),
    /// They compute something else.
    #[error(
        "`train.gpu_kernels = \"compiled\"`: {} of the kernel `{}` is {:e} where that of libtorch is {:e}, more than {:e} apart\nhint: set train.gpu_kernels=libtorch, and report this with the name of the GPU",
        .0.what, .0.kernel, .0.found, .0.expected, .0.allowed
    )]
    Differs(Difference),
}

/// The kernels for a run with images of this tower, and a note about them; none with `libtorch`. Collective.
pub fn prepare(
    config: &Config,
    rank: &Rank,
    shape: TowerShape,
) -> Result<Option<(GpuKernels, String)>, Failure> {
    if config.train.gpu_kernels == GpuKernelsName::Libtorch {
        return Ok(None);
    }
    let images = config.train.images_at_once().min(config.train.batch_size);
    let rows = (images as i64).saturating_mul(shape.tokens).min(MOST_ROWS);
    agreed(&rank.control, || checked(config, rank.device, shape.width, rows).map_err(Failure::input))
        .map(Some)
}

fn checked(
    config: &Config,
    device: Device,
    width: i64,
    rows: i64,
) -> Result<(GpuKernels, String), KernelsError> {
    let Device::Cuda(index) = device else { return Err(KernelsError::OnCpu) };
    if config.train.kernels == KernelsName::Plain {
        return Err(KernelsError::Plain);
    }
    let precision = precision(config);
    let types = RowTypes { stream: precision.residual, compute: precision.compute, width };
    let kernels = GpuKernels::load(index, types).ok_or(KernelsError::Precision(precision.compute))??;
    let timings = check::run(&kernels, rows).map_err(KernelsError::Differs)?;
    Ok((kernels, note(&kernels, rows, &timings)))
}

/// What was compiled and how long it takes; a hint if libtorch is faster.
fn note(kernels: &GpuKernels, rows: i64, timings: &[Timing]) -> String {
    let part = |timing: &Timing| {
        let Timing { operation, own, libtorch } = timing;
        format!("{operation} {:.3} ms (libtorch {:.3} ms)", own * 1e3, libtorch * 1e3)
    };
    let parts: Vec<String> = timings.iter().map(part).collect();
    let slower = timings.iter().map(|timing| timing.own).sum::<f64>()
        > timings.iter().map(|timing| timing.libtorch).sum::<f64>();
    let hint = if slower { "; they are slower here\nhint: set train.gpu_kernels=libtorch" } else { "" };
    format!(
        "note: train.gpu_kernels: compiled by {} for {}, {}, {rows} rows: {}{hint}",
        compiler_file().unwrap_or_else(|| "NVRTC".to_owned()),
        kernels.architecture(),
        kernels.types(),
        parts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_config as config;

    #[test]
    fn a_cpu_and_plain_operations_are_refused() {
        let compiled = "train.gpu_kernels=compiled";
        let refused = |settings: &[&str], device| {
            checked(&config(settings), device, 64, 8).map(|(_, note)| note).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&[compiled], Device::Cpu),
            "`train.gpu_kernels = \"compiled\"` needs a GPU, and this rank computes on the CPU\nhint: set train.gpu_kernels=libtorch"
        );
        assert_eq!(
            refused(&[compiled, "train.kernels=plain"], Device::Cuda(0)),
            "`train.gpu_kernels = \"compiled\"` contradicts `train.kernels = \"plain\"`, the operations of libtorch\nhint: set train.gpu_kernels=libtorch"
        );
        assert_eq!(
            refused(&[compiled, "train.precision=fp64"], Device::Cuda(0)),
            "`train.gpu_kernels = \"compiled\"` computes in fp32, bf16 and fp16, found Double\nhint: set train.gpu_kernels=libtorch"
        );
    }
}
