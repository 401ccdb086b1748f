//! The settings and ranks of a case, drawn from a seed.

use super::methods::{one_of, options_of, other_value, refusal, words};
use ::tests::draw::Draw;
use std::path::PathBuf;
use trainer::model::heads::zero_shot;
use trainer::model::tuners::full;

/// The three runs of a case.
#[derive(Clone, Debug)]
pub struct CombinationPlan {
    /// The determinism, which decides how the results are compared.
    pub determinism: Determinism,
    /// Common settings of the runs.
    pub settings: Vec<String>,
    /// The run on one rank, from start to end.
    pub alone: Leg,
    /// The run on several ranks.
    pub among: Leg,
    /// The resumed run; `None` if nothing is trained.
    pub resumed: Option<Resumed>,
    /// The drawn choices, as (key, word).
    pub words: Vec<(String, String)>,
}

/// Input files of the runs.
#[derive(Clone, Debug, Default)]
pub struct InputFiles {
    /// The preset of the data.
    pub preset: PathBuf,
    /// A file of prompts per class.
    pub prompts: PathBuf,
}

/// The value of `train.determinism`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Determinism {
    /// Bitwise equal on any number of ranks.
    AnyWorld,
    /// Bitwise equal on the same number of ranks.
    SameWorld,
    /// Equal except for rounding.
    Fast,
}

/// The ranks and placements of a run.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Number of ranks.
    pub ranks: usize,
    /// Settings of this run.
    pub settings: Vec<String>,
}

/// The resumed run.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// The step after which it resumes.
    pub step: u64,
    /// The checkpoint from which it resumes.
    pub from: Source,
    /// Ranks and placements after the resume.
    pub leg: Leg,
}

/// The checkpoint from which a run resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The last checkpoint of its own folder, after `train.max_steps`.
    OwnFolder,
    /// An earlier checkpoint of a run that has finished.
    Checkpoint,
}

/// Further keys with words, and the percentage of cases in which their word is drawn instead of the default.
const FURTHER_KEYS: [(&str, u64); 4] =
    [("data.sampler", 25), ("train.schedule", 30), ("eval.crops", 30), ("eval.split", 10)];
/// Values of `tuner.partial` for the three blocks of the demo model.
const PARTIAL: [&str; 6] = ["1", "2", "[0,1]", "[1,2]", "[0,2]", "[1,3]"];
/// Maximum number of refused draws per case.
const MAX_REFUSALS: usize = 100;
/// More epochs than `train.max_steps` allows.
const EPOCHS: &str = "train.epochs=4";

impl CombinationPlan {
    /// Draws the plan of a case; also returns the errors of the refused draws.
    pub fn draw(seed: u64, case: u64, inputs: &InputFiles) -> Result<(Self, Vec<String>), String> {
        let mut draw = Draw::of_case(seed, case);
        let mut refusals = Vec::new();
        while refusals.len() < MAX_REFUSALS {
            let plan = Self::attempt(&mut draw, inputs);
            let refused = plan.legs().find_map(|leg| refusal(&inputs.preset, &plan.settings_of(leg)));
            match refused {
                Some(refused) => refusals.push(refused),
                None => return Ok((plan, refusals)),
            }
        }
        Err(format!("{MAX_REFUSALS} draws in a row were refused: {}", refusals.join("\n")))
    }

    /// All settings of one of the runs.
    pub fn settings_of(&self, leg: &Leg) -> Vec<String> {
        [&self.settings[..], &leg.settings].concat()
    }

    /// Ranks and placements of all runs.
    pub fn legs(&self) -> impl Iterator<Item = &Leg> {
        [&self.alone, &self.among].into_iter().chain(self.resumed.as_ref().map(|resumed| &resumed.leg))
    }

    fn attempt(draw: &mut Draw, inputs: &InputFiles) -> Self {
        let mut choices = Choices { inputs, settings: Vec::new(), words: Vec::new() };
        let head = head(draw);
        choices.set("head.kind", head);
        if head == zero_shot::METHOD.word { choices.untrained(draw) } else { choices.trained(head, draw) }
    }
}

/// Draws a head, rarely one without trainable tensors.
fn head(draw: &mut Draw) -> &'static str {
    loop {
        let word = one_of("head.kind", draw);
        if word != zero_shot::METHOD.word || draw.chance(25) {
            return word;
        }
    }
}

/// The choices so far.
struct Choices<'a> {
    inputs: &'a InputFiles,
    settings: Vec<String>,
    words: Vec<(String, String)>,
}

impl Choices<'_> {
    fn set(&mut self, key: &str, word: &str) {
        self.settings.push(format!("{key}={word}"));
        self.count(key, word);
    }

    fn count(&mut self, key: &str, word: &str) {
        self.words.push((key.to_owned(), word.to_owned()));
    }

    fn untrained(mut self, draw: &mut Draw) -> CombinationPlan {
        self.settings.extend(["tuner.kinds=none", "train.epochs=0"].map(str::to_owned));
        self.options(&[("head.kind", zero_shot::METHOD.word)], draw);
        self.further_keys(draw, "eval.");
        let alone = Leg { ranks: 1, settings: Vec::new() };
        let among = self.leg("among", ranks(draw), placement(draw), None);
        let Self { settings, words, .. } = self;
        CombinationPlan { determinism: Determinism::AnyWorld, settings, alone, among, resumed: None, words }
    }

    fn trained(mut self, head: &'static str, draw: &mut Draw) -> CombinationPlan {
        self.settings.push(EPOCHS.to_owned());
        let determinism =
            draw.weighted(&[(5, Determinism::AnyWorld), (3, Determinism::SameWorld), (2, Determinism::Fast)]);
        self.set("train.determinism", determinism.word());
        let precision = draw.weighted(&[(16, "fp32"), (3, "fp64"), (1, "bf16")]);
        // Rounding errors of bf16 are too large for a tolerance, so only bitwise comparisons are possible.
        let not_comparable = precision == "bf16" && determinism != Determinism::AnyWorld;
        self.set("train.precision", if not_comparable { "fp32" } else { precision });
        let (loss, init) = (one_of("loss.kind", draw), one_of("head.init", draw));
        self.set("loss.kind", loss);
        self.set("head.init", init);
        let tuners = tuners(draw);
        let is_partial = self.tuners(&tuners, draw);
        self.batches(determinism, draw);
        self.further_keys(draw, "");
        let mut chosen = vec![("head.kind", head), ("loss.kind", loss), ("head.init", init)];
        chosen.extend(tuners.iter().map(|&word| ("tuner.kinds", word)));
        self.options(&chosen, draw);
        // If every tensor of every block is trained, there are no frozen tensors to shard.
        let can_shard = is_partial || !tuners.contains(&full::METHOD.word);
        self.runs(determinism, can_shard, draw)
    }

    /// Sets the tuners, and returns whether they are limited to some blocks.
    fn tuners(&mut self, tuners: &[&str], draw: &mut Draw) -> bool {
        if tuners.is_empty() {
            self.set("tuner.kinds", "none");
            return false;
        }
        for word in tuners {
            self.count("tuner.kinds", word);
        }
        self.count("number of tuners", &tuners.len().to_string());
        self.settings.push(format!("tuner.kinds={tuners:?}"));
        let partial = draw.chance(50);
        self.set("tuner.partial", if partial { draw.one_of(&PARTIAL) } else { "all" });
        partial
    }

    /// Draws batch size, micro-batch size and virtual shards.
    fn batches(&mut self, determinism: Determinism, draw: &mut Draw) {
        let size = draw.within(7, 16);
        self.settings.push(format!("train.seed={}", draw.below(1000)));
        self.settings.push(format!("train.batch_size={size}"));
        let micro = draw.chance(40);
        self.count("micro-batches", if micro { "smaller" } else { "whole" });
        if micro {
            self.settings.push(format!("train.micro_batch_size={}", draw.within(1, size)));
        }
        if determinism == Determinism::AnyWorld {
            self.set("train.virtual_shards", draw.one_of(&["4", "8"]));
        }
    }

    /// Draws the further keys that start with `prefix`.
    fn further_keys(&mut self, draw: &mut Draw, prefix: &str) {
        for (key, percent) in FURTHER_KEYS.into_iter().filter(|(key, _)| key.starts_with(prefix)) {
            if draw.chance(percent) {
                self.set(key, one_of(key, draw));
            }
        }
    }

    /// Changes some options of the chosen methods, if the configuration accepts the value.
    fn options(&mut self, chosen: &[(&str, &str)], draw: &mut Draw) {
        for key in options_of(chosen) {
            if let Some(value) = other_value(key, draw).filter(|_| draw.chance(50)) {
                // CLIP's ensemble contains words that are not in the vocabulary of the demo.
                let prompts = value == "ensemble";
                let value = if prompts { self.inputs.prompts.display().to_string() } else { value };
                self.settings.push(format!("{}={value}", key.name));
                if refusal(&self.inputs.preset, &self.settings).is_none() {
                    self.count("options", key.name);
                } else {
                    self.settings.pop();
                }
            }
        }
    }

    fn runs(mut self, determinism: Determinism, can_shard: bool, draw: &mut Draw) -> CombinationPlan {
        let steps = draw.within(4, 8);
        self.settings.push(format!("train.max_steps={steps}"));
        let step = draw.within(1, steps - 1);
        self.count("resumed after step", &step.to_string());
        let from = if determinism == Determinism::SameWorld || draw.chance(50) {
            Source::Checkpoint
        } else {
            Source::OwnFolder
        };
        self.count("resumed from", from.word());
        let world = [ranks(draw), ranks(draw)];
        let world = if determinism == Determinism::SameWorld { [world[0]; 2] } else { world };
        let heads = [determinism.head(draw), determinism.head(draw)];
        let heads = if determinism == Determinism::SameWorld { [heads[0]; 2] } else { heads };
        let mut backbone = || if can_shard { placement(draw) } else { "replicated" };
        let backbones = [backbone(), backbone()];
        let alone = ["backbone.placement=replicated", "head.placement=replicated"].map(str::to_owned).into();
        let among = self.leg("among", world[0], backbones[0], Some(heads[0]));
        let leg = self.leg("resumed", world[1], backbones[1], Some(heads[1]));
        let Self { settings, words, .. } = self;
        let resumed = Some(Resumed { step, from, leg });
        CombinationPlan {
            determinism,
            settings,
            alone: Leg { ranks: 1, settings: alone },
            among,
            resumed,
            words,
        }
    }

    fn leg(&mut self, name: &str, ranks: usize, backbone: &str, head: Option<&str>) -> Leg {
        self.count(&format!("ranks, {name}"), &ranks.to_string());
        let placements = [("backbone.placement", Some(backbone)), ("head.placement", head)];
        let mut settings = Vec::new();
        for (key, word) in placements.into_iter().filter_map(|(key, word)| Some((key, word?))) {
            self.count(key, word);
            settings.push(format!("{key}={word}"));
        }
        Leg { ranks, settings }
    }
}

/// Draws up to three tuners.
fn tuners(draw: &mut Draw) -> Vec<&'static str> {
    let mut remaining: Vec<_> = words("tuner.kinds").into_iter().filter(|&word| word != "none").collect();
    let number = draw.weighted(&[(1, 0), (10, 1), (6, 2), (3, 3)]);
    (0..number).map(|_| remaining.swap_remove(draw.below(remaining.len() as u64) as usize)).collect()
}

fn ranks(draw: &mut Draw) -> usize {
    draw.weighted(&[(2, 1), (4, 2), (3, 3), (2, 4)])
}

fn placement(draw: &mut Draw) -> &'static str {
    one_of("backbone.placement", draw)
}

impl Determinism {
    /// The word of `train.determinism`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AnyWorld => "any_world",
            Self::SameWorld => "same_world",
            Self::Fast => "fast",
        }
    }

    /// Draws the placement of the head.
    fn head(self, draw: &mut Draw) -> &'static str {
        match self {
            Self::AnyWorld => draw.one_of(&["replicated", "auto"]),
            Self::SameWorld => draw.weighted(&[(7, "sharded"), (3, "replicated")]),
            Self::Fast => one_of("head.placement", draw),
        }
    }
}

impl Source {
    const fn word(self) -> &'static str {
        match self {
            Self::OwnFolder => "its own folder",
            Self::Checkpoint => "a checkpoint of a finished run",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_draws_the_same_plans_and_every_word_of_every_registry() {
        let inputs = InputFiles { preset: "demo".into(), prompts: "texts.json".into() };
        let mut drawn = BTreeSet::new();
        for case in 0..300 {
            let (plan, _) = CombinationPlan::draw(1, case, &inputs).unwrap();
            assert_eq!(
                format!("{plan:?}"),
                format!("{:?}", CombinationPlan::draw(1, case, &inputs).unwrap().0)
            );
            drawn.extend(plan.words);
        }
        for key in ["tuner.kinds", "loss.kind", "head.kind", "head.init", "backbone.placement", "eval.crops"]
        {
            for word in words(key) {
                assert!(drawn.contains(&(key.to_owned(), word.to_owned())), "{key}={word}");
            }
        }
    }

    #[test]
    fn a_run_resumes_before_its_last_step() {
        let inputs = InputFiles { preset: "demo".into(), prompts: "texts.json".into() };
        for case in 0..100 {
            let (plan, _) = CombinationPlan::draw(2, case, &inputs).unwrap();
            let steps = plan.settings.iter().find_map(|setting| setting.strip_prefix("train.max_steps="));
            assert_eq!(plan.resumed.is_some(), steps.is_some());
            if let (Some(resumed), Some(steps)) = (plan.resumed, steps) {
                assert!((1..steps.parse().unwrap()).contains(&resumed.step));
            }
        }
    }
}
