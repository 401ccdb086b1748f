//! Visual prompts (Jia et al., 2022, section 3.2): trained tokens behind those of the image.
//!
//! Deep prompts are put behind the image's tokens in each block, in place of those of the block before. Shallow prompts
//! are put there once, before the first tuned block, and go through all blocks that follow. As in the official code they
//! come after the patches, not after the class token.

use super::{Attached, MakeTuner, ParameterNames, Tuner, TunerContext, TunerModule};
use crate::model::precision::Precision;
use crate::model::tower::{Field, UnitTuner};
use crate::model::trainables::{Init, ParameterSpec, Trainables};
use crate::options::{Declared, Method, Values, section};
use tch::Tensor;

section! {
    /// Prompts.
    pub struct VptOptions in "tuner" {
        /// Number of prompt tokens; 0 uses LIFT's 10.
        #[range(..=4096)]
        pub vpt_len: u32 = 0,
    }
}

/// VPT-shallow.
pub const SHALLOW: Method<MakeTuner> = Method {
    word: "vpt_shallow",
    about: "Prompt tokens that are added before the first tuned block (VPT-shallow).",
    official: &["vpt_shallow"],
    options: &[&VptOptions::SECTION],
    make: |values, site| Box::new(Vpt::new(values, site, Some(site.blocks.start))),
};

/// VPT-deep.
pub const DEEP: Method<MakeTuner> = Method {
    word: "vpt_deep",
    about: "Separate prompt tokens for each block (VPT-deep).",
    official: &["vpt_deep"],
    options: &[&VptOptions::SECTION],
    make: |values, site| Box::new(Vpt::new(values, site, None)),
};

/// LIFT's number of prompts.
const AUTO_LENGTH: i64 = 10;

#[derive(Debug)]
struct Vpt {
    /// The only block with prompts of its own, if they are shallow.
    only: Option<usize>,
    length: i64,
    width: i64,
    /// Tokens of the image.
    tokens: i64,
    bound: f64,
}

const LIST: ParameterNames = ParameterNames("vpt_list");

impl Vpt {
    fn new(values: &Values, site: &TunerContext, only: Option<usize>) -> Self {
        let shape = site.shape;
        let VptOptions { vpt_len } = values.read();
        let length = if vpt_len == 0 { AUTO_LENGTH } else { i64::from(vpt_len) };
        let inputs = (3 * shape.patch * shape.patch + shape.width) as f64;
        Self { only, length, width: shape.width, tokens: shape.tokens, bound: (6.0 / inputs).sqrt() }
    }

    fn has_prompts(&self, block: usize) -> bool {
        self.only.is_none_or(|only| only == block)
    }
}

impl Tuner for Vpt {
    fn parameters(&self, block: usize, _: &dyn Fn(Field) -> Tensor) -> Vec<ParameterSpec> {
        let init = Init::Uniform { bound: self.bound };
        let spec = LIST.spec(block, "prompt", &[self.length, self.width], init);
        Some(spec).filter(|_| self.has_prompts(block)).into_iter().collect()
    }

    fn attach(&self, block: usize, trainables: &Trainables, _: Precision) -> Attached {
        if !self.has_prompts(block) {
            return Ok(None);
        }
        let prompt = LIST.get(trainables, block, "prompt")?;
        Ok(Some(Box::new(PromptTokens { prompt, tokens: self.tokens })))
    }
}

#[derive(Debug)]
struct PromptTokens {
    prompt: Tensor,
    tokens: i64,
}

impl UnitTuner for PromptTokens {
    fn module(&self) -> Option<TunerModule> {
        Some(TunerModule::Prompts(self.prompt.detach()))
    }

    fn is_homogeneous(&self) -> bool {
        true
    }

    fn enter(&self, x: Tensor) -> Tensor {
        let own = x.narrow(1, 0, self.tokens);
        let prompts = self.prompt.unsqueeze(0).expand([x.size()[0], -1, -1], false).to_kind(x.kind());
        Tensor::cat(&[own, prompts], 1)
    }
}
