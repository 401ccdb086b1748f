//! What a case computes and where, drawn from its seed.

use super::words::{one_of, options_of, other_value, refusal, words};
use ::tests::draw::Draw;
use std::path::PathBuf;
use trainer::model::heads::zero_shot;
use trainer::model::tuners::full;

/// The three runs of a case.
#[derive(Clone, Debug)]
pub struct CombinationPlan {
    /// How equal they must be.
    pub promise: Promise,
    /// Settings of all of them.
    pub settings: Vec<String>,
    /// On one rank, from start to end.
    pub alone: Leg,
    /// On several.
    pub among: Leg,
    /// Resumed; none where nothing is trained.
    pub resumed: Option<Resumed>,
    /// What was chosen, as (key, word).
    pub words: Vec<(String, String)>,
}

/// What runs may read.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    /// The preset of the data.
    pub preset: PathBuf,
    /// A file of texts about the classes.
    pub texts: PathBuf,
}

/// What `train.determinism` promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The same bits on any number of ranks.
    AnyWorld,
    /// The same bits on as many ranks.
    SameWorld,
    /// The same but for rounding.
    Fast,
}

/// Where a run computes.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Number of ranks.
    pub ranks: usize,
    /// Settings of this run.
    pub settings: Vec<String>,
}

/// How a run is resumed.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// After this step.
    pub step: u64,
    /// What it is resumed from.
    pub from: Source,
    /// Where the rest is computed.
    pub leg: Leg,
}

/// What a run is resumed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From its own folder: it ended there by `train.max_steps`.
    OwnFolder,
    /// From a checkpoint of a run that went on.
    Checkpoint,
}

/// Choices of words that a case has beside its methods: a key, and in how many of a hundred cases another than the default
/// may be drawn.
const BESIDE: [(&str, u64); 4] =
    [("data.sampler", 25), ("train.schedule", 30), ("eval.crops", 30), ("eval.split", 10)];
/// Which of the three blocks of the demo's model are tuned, if not all.
const PARTIAL: [&str; 6] = ["1", "2", "[0,1]", "[1,2]", "[0,2]", "[1,3]"];
/// Draws of a case that may be refused; a few are.
const MOST_REFUSALS: usize = 100;
/// A few epochs are more steps than a run makes.
const EPOCHS: &str = "train.epochs=4";

impl CombinationPlan {
    /// The plan of a case, and what the configuration said to choices that it refused.
    pub fn draw(seed: u64, case: u64, stock: &Stock) -> Result<(Self, Vec<String>), String> {
        let mut draw = Draw::of_case(seed, case);
        let mut refusals = Vec::new();
        while refusals.len() < MOST_REFUSALS {
            let plan = Self::attempt(&mut draw, stock);
            let refused = plan.legs().find_map(|leg| refusal(&stock.preset, &plan.settings_of(leg)));
            match refused {
                Some(refused) => refusals.push(refused),
                None => return Ok((plan, refusals)),
            }
        }
        Err(format!("{MOST_REFUSALS} draws in a row were refused: {}", refusals.join("\n")))
    }

    /// The settings of one of its runs.
    pub fn settings_of(&self, leg: &Leg) -> Vec<String> {
        [&self.settings[..], &leg.settings].concat()
    }

    /// Where it computes.
    pub fn legs(&self) -> impl Iterator<Item = &Leg> {
        [&self.alone, &self.among].into_iter().chain(self.resumed.as_ref().map(|resumed| &resumed.leg))
    }

    fn attempt(draw: &mut Draw, stock: &Stock) -> Self {
        let mut choices = Choices { stock, settings: Vec::new(), words: Vec::new() };
        let head = head(draw);
        choices.set("head.kind", head);
        if head == zero_shot::METHOD.word { choices.untrained(draw) } else { choices.trained(head, draw) }
    }
}

/// A head; one that trains nothing is rare.
fn head(draw: &mut Draw) -> &'static str {
    loop {
        let word = one_of("head.kind", draw);
        if word != zero_shot::METHOD.word || draw.chance(25) {
            return word;
        }
    }
}

/// What has been chosen so far.
struct Choices<'a> {
    stock: &'a Stock,
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
        self.beside(draw, "eval.");
        let alone = Leg { ranks: 1, settings: Vec::new() };
        let among = self.leg("among", ranks(draw), placement(draw), None);
        let Self { settings, words, .. } = self;
        CombinationPlan { promise: Promise::AnyWorld, settings, alone, among, resumed: None, words }
    }

    fn trained(mut self, head: &'static str, draw: &mut Draw) -> CombinationPlan {
        self.settings.push(EPOCHS.to_owned());
        let promise = draw.weighted(&[(5, Promise::AnyWorld), (3, Promise::SameWorld), (2, Promise::Fast)]);
        self.set("train.determinism", promise.word());
        let precision = draw.weighted(&[(16, "fp32"), (3, "fp64"), (1, "bf16")]);
        // Its roundings are as coarse as its numbers: only what is bitwise can be compared.
        let too_coarse = precision == "bf16" && promise != Promise::AnyWorld;
        self.set("train.precision", if too_coarse { "fp32" } else { precision });
        let (loss, start) = (one_of("loss.kind", draw), one_of("head.init", draw));
        self.set("loss.kind", loss);
        self.set("head.init", start);
        let tuners = tuners(draw);
        let tunes_some = self.tuners(&tuners, draw);
        self.batches(promise, draw);
        self.beside(draw, "");
        let mut chosen = vec![("head.kind", head), ("loss.kind", loss), ("head.init", start)];
        chosen.extend(tuners.iter().map(|&word| ("tuner.kinds", word)));
        self.options(&chosen, draw);
        // Where every tensor of every block is trained, no block has anything frozen to divide.
        let divides = tunes_some || !tuners.contains(&full::METHOD.word);
        self.runs(promise, divides, draw)
    }

    /// Sets the tuners, and gives whether they leave some blocks alone.
    fn tuners(&mut self, tuners: &[&str], draw: &mut Draw) -> bool {
        if tuners.is_empty() {
            self.set("tuner.kinds", "none");
            return false;
        }
        for word in tuners {
            self.count("tuner.kinds", word);
        }
        self.count("tuners at once", &tuners.len().to_string());
        self.settings.push(format!("tuner.kinds={tuners:?}"));
        let partial = draw.chance(50);
        self.set("tuner.partial", if partial { draw.one_of(&PARTIAL) } else { "all" });
        partial
    }

    /// How the samples are cut into batches, and these into parts.
    fn batches(&mut self, promise: Promise, draw: &mut Draw) {
        let size = draw.within(7, 16);
        self.settings.push(format!("train.seed={}", draw.below(1000)));
        self.settings.push(format!("train.batch_size={size}"));
        let cut = draw.chance(40);
        self.count("micro-batches", if cut { "smaller" } else { "whole" });
        if cut {
            self.settings.push(format!("train.micro_batch_size={}", draw.within(1, size)));
        }
        if promise == Promise::AnyWorld {
            self.set("train.virtual_shards", draw.one_of(&["4", "8"]));
        }
    }

    /// Draws the choices that have no method, where their keys begin so.
    fn beside(&mut self, draw: &mut Draw, prefix: &str) {
        for (key, percent) in BESIDE.into_iter().filter(|(key, _)| key.starts_with(prefix)) {
            if draw.chance(percent) {
                self.set(key, one_of(key, draw));
            }
        }
    }

    /// Gives some options of the chosen methods another value, where the configuration takes it.
    fn options(&mut self, chosen: &[(&str, &str)], draw: &mut Draw) {
        for key in options_of(chosen) {
            if let Some(value) = other_value(key, draw).filter(|_| draw.chance(50)) {
                // The sentences of CLIP's ensemble have words that the demo's text tower does not know.
                let texts = value == "ensemble";
                let value = if texts { self.stock.texts.display().to_string() } else { value };
                self.settings.push(format!("{}={value}", key.name));
                if refusal(&self.stock.preset, &self.settings).is_none() {
                    self.count("options", key.name);
                } else {
                    self.settings.pop();
                }
            }
        }
    }

    fn runs(mut self, promise: Promise, divides: bool, draw: &mut Draw) -> CombinationPlan {
        let steps = draw.within(4, 8);
        self.settings.push(format!("train.max_steps={steps}"));
        let step = draw.within(1, steps - 1);
        self.count("resumed after step", &step.to_string());
        let from = if promise == Promise::SameWorld || draw.chance(50) {
            Source::Checkpoint
        } else {
            Source::OwnFolder
        };
        self.count("resumed from", from.word());
        let world = [ranks(draw), ranks(draw)];
        let world = if promise == Promise::SameWorld { [world[0]; 2] } else { world };
        let heads = [promise.head(draw), promise.head(draw)];
        let heads = if promise == Promise::SameWorld { [heads[0]; 2] } else { heads };
        let mut backbone = || if divides { placement(draw) } else { "replicated" };
        let backbones = [backbone(), backbone()];
        let alone = ["backbone.placement=replicated", "head.placement=replicated"].map(str::to_owned).into();
        let among = self.leg("among", world[0], backbones[0], Some(heads[0]));
        let leg = self.leg("resumed", world[1], backbones[1], Some(heads[1]));
        let Self { settings, words, .. } = self;
        let resumed = Some(Resumed { step, from, leg });
        CombinationPlan { promise, settings, alone: Leg { ranks: 1, settings: alone }, among, resumed, words }
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

/// None to three tuners.
fn tuners(draw: &mut Draw) -> Vec<&'static str> {
    let mut left: Vec<_> = words("tuner.kinds").into_iter().filter(|&word| word != "none").collect();
    let number = draw.weighted(&[(1, 0), (10, 1), (6, 2), (3, 3)]);
    (0..number).map(|_| left.swap_remove(draw.below(left.len() as u64) as usize)).collect()
}

fn ranks(draw: &mut Draw) -> usize {
    draw.weighted(&[(2, 1), (4, 2), (3, 3), (2, 4)])
}

fn placement(draw: &mut Draw) -> &'static str {
    one_of("backbone.placement", draw)
}

impl Promise {
    /// The word of `train.determinism`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AnyWorld => "any_world",
            Self::SameWorld => "same_world",
            Self::Fast => "fast",
        }
    }

    /// Where the classes are.
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
            Self::Checkpoint => "a checkpoint of a run that went on",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_draws_the_same_plans_again_and_every_word_of_every_registry() {
        let stock = Stock { preset: "demo".into(), texts: "texts.json".into() };
        let mut drawn = BTreeSet::new();
        for case in 0..300 {
            let (plan, _) = CombinationPlan::draw(1, case, &stock).unwrap();
            assert_eq!(
                format!("{plan:?}"),
                format!("{:?}", CombinationPlan::draw(1, case, &stock).unwrap().0)
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
    fn a_run_is_resumed_before_its_end() {
        let stock = Stock { preset: "demo".into(), texts: "texts.json".into() };
        for case in 0..100 {
            let (plan, _) = CombinationPlan::draw(2, case, &stock).unwrap();
            let steps = plan.settings.iter().find_map(|setting| setting.strip_prefix("train.max_steps="));
            assert_eq!(plan.resumed.is_some(), steps.is_some());
            if let (Some(resumed), Some(steps)) = (plan.resumed, steps) {
                assert!((1..steps.parse().unwrap()).contains(&resumed.step));
            }
        }
    }
}
