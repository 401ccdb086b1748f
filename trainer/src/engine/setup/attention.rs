//! `train.attention`: the kernel of libtorch that computes attention on a GPU, by measurement or by name.
//!
//! Training and evaluations of a run prefer the same kernel, so a run evaluates what it trained. The features of texts and images
//! that initialise a head are computed before a measurement, with libtorch's own choice.

use crate::aten::try_backward_from;
use crate::config::{AttentionName, Config, Determinism};
use crate::engine::failure::{Failure, agreed};
use crate::engine::gpu::attention::{Inputs, prefer, refusal, taken};
use crate::engine::gpu::refusal::reason;
use crate::engine::gpu::timing::try_seconds_of_pass;
use crate::engine::rank::Rank;
use crate::engine::setup::session::SessionPurpose;
use crate::model::block::split_qkv;
use collectives::ReduceOp;
use std::fmt;
use tch::{Device, Kind, TchError, Tensor};

/// Kernels that are measured. `math` is not: it keeps the scores of all heads, for which the micro-batch may leave no memory.
const MEASURED: [AttentionName; 3] = [AttentionName::Flash, AttentionName::Efficient, AttentionName::CuDnn];
/// Passes before those that count, measurements of which the fastest counts, and passes of each.
const WARM_UP: usize = 3;
const TIMES: usize = 5;
const PASSES: usize = 4;
/// Share of the time of libtorch's own choice that a kernel must save to replace it. Less is within the noise of a measurement, and
/// would give two equal runs different kernels.
const GAIN: f64 = 0.05;
/// A kernel that a rank cannot use.
const NEVER: i64 = i64::MAX;

/// A kernel of attention that a run cannot have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttentionError {
    /// The kernels are those of a GPU.
    #[error(
        "`train.attention = \"{0}\"` needs a GPU, and this rank computes on the CPU\nhint: set train.attention=auto"
    )]
    OnCpu(AttentionName),
    /// cuDNN adds the gradients of queries in any order.
    #[error(
        "`train.attention = \"cudnn\"` has no deterministic backward pass, and `train.determinism` is {0}\nhint: set train.attention=flash or train.attention=auto, or train.determinism=fast"
    )]
    NotDeterministic(Determinism),
    /// libtorch refuses it.
    #[error(
        "libtorch does not compute `train.attention = \"{kernel}\"` here, for {shape}: {reason}\nhint: set train.attention to auto or to another kernel; if the run resumes, allow it with --allow-changed train.attention"
    )]
    Refused {
        /// The named kernel.
        kernel: AttentionName,
        /// What it was to compute.
        shape: AttentionShape,
        /// In libtorch's words.
        reason: String,
    },
}

/// Attention of the blocks of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Images at once.
    pub images: i64,
    /// Tokens of an image, with those that tuners append.
    pub tokens: i64,
    /// Heads.
    pub heads: i64,
    /// Of a head.
    pub head_width: i64,
    /// Element type.
    pub kind: Kind,
}

impl fmt::Display for AttentionShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, tokens, heads, head_width, kind } = self;
        write!(f, "{images} images of {tokens} tokens and {heads} heads of width {head_width} in {kind:?}")
    }
}

/// Refuses a kernel that the run cannot have, before anything is loaded. A run that resumes on the CPU, and an evaluation there,
/// need no kernel.
pub fn check(config: &Config, device: Device, purpose: SessionPurpose) -> Result<(), AttentionError> {
    let (kernel, determinism) = (config.train.attention, config.train.determinism);
    if kernel != AttentionName::Auto && purpose == SessionPurpose::Train && !device.is_cuda() {
        return Err(AttentionError::OnCpu(kernel));
    }
    // Flash and memory-efficient attention have a deterministic backward pass, which libtorch takes under deterministic
    // algorithms. That of `math` consists of products and a softmax.
    if kernel == AttentionName::CuDnn && determinism != Determinism::Fast {
        return Err(AttentionError::NotDeterministic(determinism));
    }
    Ok(())
}

/// Replaces `auto` by the fastest kernel of a run that starts, and checks a named one; says what was chosen, or could not be had.
/// Collective.
pub fn settle(
    config: &mut Config,
    rank: &Rank,
    purpose: SessionPurpose,
    shape: AttentionShape,
) -> Result<Option<String>, Failure> {
    let kernel = config.train.attention;
    if kernel != AttentionName::Auto {
        return agreed(&rank.control, || {
            checked(kernel, rank.device, purpose, shape).map_err(Failure::input)
        });
    }
    let measures = purpose == SessionPurpose::Train
        && config.train.epochs > 0
        && config.train.determinism == Determinism::Fast
        && rank.device.is_cuda();
    if !measures {
        return Ok(None);
    }
    let found = fastest(rank, shape)?;
    config.train.attention = found.as_ref().map_or(kernel, |(fastest, _)| *fastest);
    let preferred = || {
        let done = prefer(config.train.attention, rank.device);
        done.then_some(())
            .ok_or_else(|| Failure::run("libtorch refuses the order of its kernels of attention"))
    };
    agreed(&rank.control, preferred)?;
    Ok(found.map(|(fastest, why)| format!("note: train.attention: {fastest}, because {why}")))
}

/// A kernel that the configuration names must serve a run that trains. On the CPU, and in an evaluation, libtorch chooses where it
/// does not: the note says so.
fn checked(
    kernel: AttentionName,
    device: Device,
    purpose: SessionPurpose,
    shape: AttentionShape,
) -> Result<Option<String>, AttentionError> {
    let trains = matches!(purpose, SessionPurpose::Train | SessionPurpose::Resume);
    let reason = match named(kernel, device, shape) {
        Ok(()) => return Ok(None),
        Err(error @ AttentionError::Refused { .. }) if trains => return Err(error),
        Err(AttentionError::Refused { reason, .. }) => reason,
        Err(_) => "this rank computes on the CPU".to_owned(),
    };
    Ok(Some(format!(
        "note: train.attention: the run trains with {kernel}; here libtorch chooses, because {reason}"
    )))
}

/// Whether a named kernel serves the blocks.
fn named(kernel: AttentionName, device: Device, shape: AttentionShape) -> Result<(), AttentionError> {
    if !device.is_cuda() {
        return Err(AttentionError::OnCpu(kernel));
    }
    let refused = |reason| AttentionError::Refused { kernel, shape, reason };
    let site = Site::new(shape, device).map_err(refused)?;
    site.refusal(kernel).map_or(Ok(()), |reason| Err(refused(reason)))?;
    // What the checks of libtorch do not see shows in a pass.
    site.pass().map_err(refused)
}

/// The kernel whose slowest rank is the fastest, and the times of all; none if no kernel that is measured serves all ranks.
fn fastest(rank: &Rank, shape: AttentionShape) -> Result<Option<(AttentionName, String)>, Failure> {
    let site = Site::new(shape, rank.device);
    let measured: Vec<Result<f64, String>> = MEASURED
        .iter()
        .map(|&kernel| site.as_ref().map_err(Clone::clone).and_then(|site| site.seconds(kernel)))
        .collect();
    let own = site.ok().and_then(|site| {
        let own_order = prefer(AttentionName::Auto, rank.device);
        own_order.then(|| taken(&site.inputs())).flatten()
    });
    let own = own.and_then(|own| MEASURED.iter().position(|&kernel| kernel == own));
    let nanoseconds = |seconds: &Result<f64, String>| seconds.as_ref().map_or(NEVER, |s| (s * 1e9) as i64);
    let mut times: Vec<i64> = measured.iter().map(nanoseconds).collect();
    // Where ranks differ in what libtorch takes, each gets the same answer.
    times.push(own.map_or(-1, |own| own as i64));
    rank.control.all_reduce(&mut times, ReduceOp::Max)?;
    let own = times.pop().and_then(|own| usize::try_from(own).ok());
    let Some(best) = choose(&times, own) else { return Ok(None) };
    let line = |(place, kernel): (usize, &AttentionName)| match (times[place], &measured[place]) {
        (NEVER, Err(reason)) => format!("{kernel} is refused ({reason})"),
        (NEVER, Ok(_)) => format!("{kernel} is refused on another rank"),
        (time, _) => format!("{kernel} takes {:.3} ms", time as f64 / 1e6),
    };
    let lines: Vec<String> = MEASURED.iter().enumerate().map(line).collect();
    Ok(Some((MEASURED[best], format!("for {shape}, forward and backward, {}", lines.join(", ")))))
}

/// The least time, unless it is not clearly less than that of libtorch's own choice.
fn choose(times: &[i64], own: Option<usize>) -> Option<usize> {
    let best = (0..times.len()).filter(|&place| times[place] < NEVER).min_by_key(|&place| times[place])?;
    let own = own.filter(|&own| times[own] < NEVER);
    let clearly = |own: usize| (times[best] as f64) < (1.0 - GAIN) * times[own] as f64;
    Some(own.filter(|&own| !clearly(own)).unwrap_or(best))
}

/// Queries, keys and values as a block has them, and a gradient.
struct Site {
    shape: AttentionShape,
    /// `[images, tokens, 3 width]`, a leaf.
    qkv: Tensor,
    /// Of the output, `[images, heads, tokens, head width]`, whose tokens lie apart.
    gradient: Tensor,
}

impl Site {
    fn new(shape: AttentionShape, device: Device) -> Result<Self, String> {
        let AttentionShape { images, tokens, heads, head_width, kind } = shape;
        let width = heads * head_width;
        let make = || -> Result<Self, TchError> {
            let places = Tensor::f_arange(images * tokens * 3 * width, (Kind::Float, device))?;
            let qkv = places.f_sin()?.f_to_kind(kind)?.f_view([images, tokens, 3 * width])?;
            let gradient = qkv.f_narrow(2, 0, width)?.f_contiguous()?;
            let gradient = gradient.f_view([images, tokens, heads, head_width])?.f_transpose(1, 2)?;
            Ok(Self { shape, qkv: qkv.f_set_requires_grad(true)?, gradient })
        };
        make().map_err(reason)
    }

    /// Those of a block that computes all tokens.
    fn inputs(&self) -> Inputs {
        split_qkv(&self.qkv, self.shape.heads)
    }

    /// Why a kernel does not serve a block: one that computes all tokens, or the last one with the class token alone.
    fn refusal(&self, kernel: AttentionName) -> Option<String> {
        let [query, key, value] = self.inputs();
        let first = query.narrow(2, 0, 1);
        refusal(kernel, &[query, key.shallow_clone(), value.shallow_clone()])
            .or_else(|| refusal(kernel, &[first, key, value]))
    }

    /// A forward and a backward pass.
    fn pass(&self) -> Result<(), String> {
        let [query, key, value] = self.inputs();
        let output = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        );
        try_backward_from(&output.map_err(reason)?, &self.gradient, false).map_err(reason)
    }

    /// Seconds of a pass with this kernel, or why there is none.
    fn seconds(&self, kernel: AttentionName) -> Result<f64, String> {
        if let Some(reason) = self.refusal(kernel) {
            return Err(reason);
        }
        if !prefer(kernel, self.qkv.device()) {
            return Err("libtorch refuses the order of its kernels".to_owned());
        }
        (0..WARM_UP).try_for_each(|_| self.pass())?;
        try_seconds_of_pass(self.qkv.device(), (TIMES, PASSES), || self.pass())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_config as config;

    const SHAPE: AttentionShape =
        AttentionShape { images: 8, tokens: 197, heads: 12, head_width: 64, kind: Kind::BFloat16 };

    #[test]
    fn the_fastest_is_chosen_if_it_is_clearly_faster_than_libtorchs_choice() {
        assert_eq!(choose(&[100, 90, 80], Some(0)), Some(2));
        assert_eq!(choose(&[100, 97, 96], Some(0)), Some(0));
        assert_eq!(choose(&[100, 97, 96], Some(1)), Some(1));
        assert_eq!(choose(&[100, 97, 96], None), Some(2));
        assert_eq!(choose(&[NEVER, 97, NEVER], Some(0)), Some(1));
        assert_eq!(choose(&[NEVER; 3], None), None);
    }

    #[test]
    fn a_kernel_without_a_gpu_and_cudnn_under_determinism_are_refused() {
        let named = config(&["train.attention=flash"]);
        let error = check(&named, Device::Cpu, SessionPurpose::Train).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.attention = \"flash\"` needs a GPU, and this rank computes on the CPU\nhint: set train.attention=auto"
        );
        for purpose in [SessionPurpose::Resume, SessionPurpose::Evaluate, SessionPurpose::Apply] {
            assert_eq!(check(&named, Device::Cpu, purpose), Ok(()));
        }
        let cudnn = config(&["train.attention=cudnn", "train.determinism=any_world"]);
        let error = check(&cudnn, Device::Cuda(0), SessionPurpose::Train).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.attention = \"cudnn\"` has no deterministic backward pass, and `train.determinism` is any_world\nhint: set train.attention=flash or train.attention=auto, or train.determinism=fast"
        );
    }

    #[test]
    fn a_refusal_names_the_shape_and_the_reason() {
        let error =
            AttentionError::Refused { kernel: AttentionName::Flash, shape: SHAPE, reason: "no".to_owned() };
        assert_eq!(
            error.to_string(),
            "libtorch does not compute `train.attention = \"flash\"` here, for 8 images of 197 tokens and 12 heads of width 64 in BFloat16: no\nhint: set train.attention to auto or to another kernel; if the run resumes, allow it with --allow-changed train.attention"
        );
    }
}
