//! How a GPU computes: with or without TF32, in which order it adds, and by which kernel of attention.

use super::{attention, ffi};
use crate::config::{Config, Determinism, PrecisionName};
use crate::engine::setup::library_environment::CUBLAS_WORKSPACE;
use tch::Device;

/// Why the configured arithmetic is not available.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArithmeticError {
    /// TF32 is a format of NVIDIA's GPUs.
    #[error(
        "`train.precision = \"tf32\"` needs a GPU, and this rank computes on the CPU\nhint: set train.precision=fp32"
    )]
    Tf32OnCpu,
    /// The CPU's fp16 is slow, and a run with it would not be that of a GPU.
    #[error(
        "`train.precision = \"fp16\"` needs a GPU, and this rank computes on the CPU\nhint: set train.precision=auto, which is bf16 where the CPU has it"
    )]
    Fp16OnCpu,
    /// cuBLAS would add in an order that depends on its streams.
    #[error(
        "`train.determinism = \"{determinism}\"` needs `CUBLAS_WORKSPACE_CONFIG` to be `:4096:8` or `:16:8`, found `{found}`\nhint: unset it"
    )]
    Workspace {
        /// The requested level.
        determinism: Determinism,
        /// The value of the user.
        found: String,
    },
    /// A defect of libtorch or of the shim.
    #[error("libtorch refuses the settings of the GPU's arithmetic")]
    Refused,
}

/// Sets libtorch's arithmetic for what follows. Call it before the first computation of a configuration.
///
/// libtorch's default lets convolutions of fp32 use TF32, which rounds their operands to ten bits: fp32 must say no. A CPU
/// has no TF32, and all its operations are repeatable.
pub fn apply(config: &Config, device: Device) -> Result<(), ArithmeticError> {
    let (precision, determinism) = (config.train.precision, config.train.determinism);
    let tf32 = precision == PrecisionName::Tf32;
    if !device.is_cuda() {
        return match precision {
            PrecisionName::Tf32 => Err(ArithmeticError::Tf32OnCpu),
            PrecisionName::Fp16 => Err(ArithmeticError::Fp16OnCpu),
            _ => Ok(()),
        };
    }
    let deterministic = determinism != Determinism::Fast;
    if deterministic {
        let found = std::env::var(CUBLAS_WORKSPACE.0).unwrap_or_default();
        check_workspace(determinism, found)?;
    }
    // Under deterministic algorithms libtorch chooses attention whose backward pass adds in a fixed order, and adds rows
    // and elements by sorting where it would use atomic additions.
    if ffi::allow_tf32(tf32)
        && ffi::be_deterministic(deterministic)
        && attention::prefer(config.train.attention, device)
    {
        Ok(())
    } else {
        Err(ArithmeticError::Refused)
    }
}

fn check_workspace(determinism: Determinism, found: String) -> Result<(), ArithmeticError> {
    if [":4096:8", ":16:8"].contains(&found.as_str()) {
        Ok(())
    } else {
        Err(ArithmeticError::Workspace { determinism, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_config as config;

    #[test]
    fn tf32_and_fp16_are_refused_on_the_cpu() {
        let error = apply(&config(&["train.precision=tf32"]), Device::Cpu).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.precision = \"tf32\"` needs a GPU, and this rank computes on the CPU\nhint: set train.precision=fp32"
        );
        let error = apply(&config(&["train.precision=fp16"]), Device::Cpu).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.precision = \"fp16\"` needs a GPU, and this rank computes on the CPU\nhint: set train.precision=auto, which is bf16 where the CPU has it"
        );
        assert_eq!(apply(&config(&["train.determinism=any_world"]), Device::Cpu), Ok(()));
    }

    #[test]
    fn a_workspace_that_is_not_repeatable_is_refused() {
        assert_eq!(check_workspace(Determinism::SameWorld, ":16:8".to_owned()), Ok(()));
        let error = check_workspace(Determinism::AnyWorld, ":0:0".to_owned()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.determinism = \"any_world\"` needs `CUBLAS_WORKSPACE_CONFIG` to be `:4096:8` or `:16:8`, found `:0:0`\nhint: unset it"
        );
    }
}
