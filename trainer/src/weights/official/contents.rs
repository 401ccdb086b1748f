//! Infers the contents of a file of trained tensors, and their training options, from names and shapes alone.

use super::{FAMILIES, TunerFamily, list_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// The tuners and the head that the tensors of a file belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Words of `tuner.kinds`, in the order of the official code.
    pub kinds: Vec<&'static str>,
    /// Lists of tuners that the official code does not have.
    pub unknown: Vec<String>,
    /// Values of the options that sizes tell, such as `tuner.adapter_dim`.
    pub widths: BTreeMap<&'static str, BTreeSet<usize>>,
    /// Blocks that have modules of their own. Biases, norms and shallow prompts are those of all blocks.
    pub blocks: Option<Range<usize>>,
    /// Classes and features of the head.
    pub head_shape: Option<Vec<usize>>,
    /// Which tensors the head has.
    pub head: HeadTensors,
}

/// The tensors of a head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeadTensors {
    /// None: nothing of the head is trained.
    #[default]
    None,
    /// `head.weight`.
    Weight,
    /// `head.weight` and `head.bias`.
    WeightAndBias,
}

/// The options that decide which tensors a model trains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfficialOptions {
    /// Words of `tuner.kinds`.
    pub kinds: Vec<String>,
    /// `head.kind`.
    pub head_kind: String,
    /// The tensors of such a head.
    pub head: HeadTensors,
    /// Values of options that sizes tell, where they are not left to a rule.
    pub widths: BTreeMap<&'static str, usize>,
}

impl fmt::Display for OfficialOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tuner.kinds=[{}]", self.kinds.join(", "))?;
        self.widths.iter().try_for_each(|(key, width)| write!(f, ", {key}={width}"))?;
        write!(f, ", head.kind={}", self.head_kind)
    }
}

impl Contents {
    /// Infers the contents from names and shapes.
    pub fn of<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize])>) -> Self {
        let mut contents = Self::default();
        let mut lists: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (name, shape) in tensors {
            if let Some((list, rest)) = list_of(name) {
                let number: Option<usize> = rest.split('.').next().and_then(|number| number.parse().ok());
                lists.entry(list).or_default().extend(number);
                contents.note_width(list, name, shape);
            }
            match name {
                "head.weight" => contents.head_shape = Some(shape.to_vec()),
                "head.bias" => contents.head = HeadTensors::WeightAndBias,
                _ => {}
            }
        }
        if contents.head_shape.is_some() && contents.head == HeadTensors::None {
            contents.head = HeadTensors::Weight;
        }
        contents.kinds =
            FAMILIES.iter().filter(|family| is_in(&lists, family)).map(|family| family.kind).collect();
        let known = |list: &str| FAMILIES.iter().any(|family| family.list == list);
        contents.unknown = lists.keys().filter(|list| !known(list)).map(|&list| list.to_owned()).collect();
        contents.blocks = blocks(&lists, &contents.kinds);
        contents
    }

    fn note_width(&mut self, list: &str, name: &str, shape: &[usize]) {
        let width = FAMILIES.iter().find(|family| family.list == list).and_then(|family| family.width);
        if let Some(width) = width.filter(|width| name.ends_with(width.tensor))
            && let Some(&size) = shape.get(width.dimension)
        {
            self.widths.entry(width.key).or_default().insert(size);
        }
    }

    /// The options that fit the file, as `--set` takes them. Properties that names and shapes do not determine are left
    /// out: the kind of a head without a bias, and the elements that a mask selected.
    pub fn options(&self) -> Vec<String> {
        let quoted: Vec<String> = self.kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
        let kinds = if quoted.is_empty() { "\"none\"".to_owned() } else { quoted.join(", ") };
        let mut options = vec![format!("tuner.kinds=[{kinds}]")];
        for (key, sizes) in &self.widths {
            if let [size] = sizes.iter().collect::<Vec<_>>()[..] {
                options.push(format!("{key}={size}"));
            }
        }
        // From the first block on it may be all of them.
        if let Some(Range { start, end }) = self.blocks.clone().filter(|blocks| blocks.start > 0) {
            options.push(format!("tuner.partial=[{start}, {end}]"));
        }
        match self.head {
            HeadTensors::None => options.push("head.kind=zero_shot".to_owned()),
            HeadTensors::Weight => {}
            HeadTensors::WeightAndBias => options.push("head.kind=linear".to_owned()),
        }
        options
    }

    /// Whether a model with these options trains the tensors of the file, as far as this is known without the model.
    pub fn fits(&self, options: &OfficialOptions) -> bool {
        let other_width = |(key, width): (&&str, &usize)| {
            self.widths.get(*key).is_some_and(|found| !found.iter().eq([width]))
        };
        self.has_tuners(options) && self.head == options.head && !options.widths.iter().any(other_width)
    }

    fn has_tuners(&self, options: &OfficialOptions) -> bool {
        let lists = |kinds: &mut dyn Iterator<Item = &str>| -> Option<BTreeSet<&'static str>> {
            kinds
                .map(|kind| FAMILIES.iter().find(|family| family.kind == kind).map(|family| family.list))
                .collect()
        };
        let wanted = lists(&mut options.kinds.iter().map(String::as_str).filter(|kind| *kind != "none"));
        // A tuner that the official code does not have is compared with the model, name by name.
        let Some(wanted) = wanted.filter(|_| self.unknown.is_empty()) else { return true };
        let held = lists(&mut self.kinds.iter().copied());
        // Prompts of the first block alone can be deep ones, of a model that is tuned in that block only.
        let shallow = options.kinds.iter().any(|kind| kind == "vpt_shallow");
        let too_deep = shallow && self.kinds.contains(&"vpt_deep");
        held == Some(wanted) && !too_deep
    }
}

/// Whether the lists hold the tensors of a family.
fn is_in(lists: &BTreeMap<&str, BTreeSet<usize>>, family: &TunerFamily) -> bool {
    let Some(blocks) = lists.get(family.list) else { return false };
    let first_alone = blocks.iter().eq([&0]);
    match family.kind {
        "vpt_shallow" => first_alone,
        "vpt_deep" => !first_alone,
        _ => true,
    }
}

/// From the first block with a module of its own to after the last.
fn blocks(lists: &BTreeMap<&str, BTreeSet<usize>>, kinds: &[&str]) -> Option<Range<usize>> {
    let numbered = FAMILIES.iter().filter(|family| {
        kinds.contains(&family.kind) && !matches!(family.kind, "bias" | "layer_norm" | "vpt_shallow")
    });
    let numbers: BTreeSet<usize> =
        numbered.filter_map(|family| lists.get(family.list)).flatten().copied().collect();
    Some(*numbers.first()?..*numbers.last()? + 1)
}

impl fmt::Display for Contents {
    /// Displays the contents of the file, and the options that fit it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lists: Vec<&str> = FAMILIES
            .iter()
            .filter(|family| self.kinds.contains(&family.kind))
            .map(|family| family.list)
            .chain(self.unknown.iter().map(String::as_str))
            .collect();
        lists.dedup();
        match lists[..] {
            [] => write!(f, "it holds no tensors of a tuner")?,
            _ => write!(f, "it holds tensors of {}", lists.join(", "))?,
        }
        if let Some(Range { start, end }) = &self.blocks {
            write!(f, " in blocks {start} to {}", end - 1)?;
        }
        match (self.head, self.head_shape.as_deref()) {
            (HeadTensors::None, _) => write!(f, " and no head")?,
            (HeadTensors::Weight, Some([classes, width])) => {
                write!(f, " and a head of {classes} classes on {width} features, without a bias")?;
            }
            (_, Some([classes, width])) => {
                write!(f, " and a head of {classes} classes on {width} features, with a bias")?;
            }
            _ => write!(f, " and a head")?,
        }
        let quoted = |option: &String| {
            // A shell would interpret brackets.
            let quote = if option.contains('[') { "'" } else { "" };
            format!(" --set {quote}{option}{quote}")
        };
        write!(f, "\nhint: evaluate it with{}", self.options().iter().map(quoted).collect::<String>())?;
        if self.head == HeadTensors::Weight {
            write!(f, " and the head.kind of its training (cosine, l2_norm or layer_norm)")?;
        }
        if self.kinds.contains(&"masked") {
            write!(f, ", tuner.mask_ratio and tuner.mask_seed of its training")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tensors: &[(&str, &[usize])]) -> Contents {
        Contents::of(tensors.iter().copied())
    }

    fn options(kinds: &[&str], head: HeadTensors) -> OfficialOptions {
        let kinds = kinds.iter().map(|&kind| kind.to_owned()).collect();
        OfficialOptions { kinds, head_kind: "cosine".to_owned(), head, widths: BTreeMap::new() }
    }

    const HEAD: (&str, &[usize]) = ("head.weight", &[10, 128]);

    #[test]
    fn every_list_of_the_official_code_tells_its_tuner() {
        let cases: [(&str, &[usize], &str); 14] = [
            ("tuner.block_tuned.0.ln_1.weight", &[128], "tuner.kinds=[\"full\"]"),
            ("tuner.bias_tuned.7", &[128], "tuner.kinds=[\"bias\"]"),
            ("tuner.ln_tuned.3.weight", &[128], "tuner.kinds=[\"layer_norm\"]"),
            ("tuner.vpt_list.0.prompt", &[5, 128], "tuner.kinds=[\"vpt_shallow\"], tuner.vpt_len=5"),
            (
                "tuner.vpt_list.1.prompt",
                &[5, 128],
                "tuner.kinds=[\"vpt_deep\"], tuner.vpt_len=5, tuner.partial=[1, 2]",
            ),
            (
                "tuner.adapter_list.0.down_proj.weight",
                &[3, 128],
                "tuner.kinds=[\"adapter\"], tuner.adapter_dim=3",
            ),
            (
                "tuner.adaptformer_list.0.down_proj.weight",
                &[3, 128],
                "tuner.kinds=[\"adaptformer\"], tuner.adapter_dim=3",
            ),
            ("tuner.lora_list.0.q.lora_A", &[128, 8], "tuner.kinds=[\"lora\"], tuner.adapter_dim=8"),
            ("tuner.lora_mlp_list.0.1.lora_A", &[128, 8], "tuner.kinds=[\"lora_mlp\"], tuner.adapter_dim=8"),
            ("tuner.ssf_attn_list.0.attn_in.scale", &[384], "tuner.kinds=[\"ssf_attn\"]"),
            ("tuner.ssf_mlp_list.0.mlp_in.scale", &[512], "tuner.kinds=[\"ssf_mlp\"]"),
            ("tuner.ssf_ln_list.0.ln_1.scale", &[128], "tuner.kinds=[\"ssf_ln\"]"),
            ("tuner.masked_linear_list.0.mlp_in.optimized_bias", &[4], "tuner.kinds=[\"masked\"]"),
            ("head.bias", &[10], "tuner.kinds=[\"none\"], head.kind=linear"),
        ];
        for (name, shape, expected) in cases {
            assert_eq!(of(&[HEAD, (name, shape)]).options().join(", "), expected, "{name}");
        }
        let named: BTreeSet<&str> = cases.iter().filter_map(|(name, ..)| Some(list_of(name)?.0)).collect();
        assert!(FAMILIES.iter().all(|family| named.contains(family.list)), "a list is not tried");
    }

    #[test]
    fn files_of_the_configured_tuners_fit() {
        let deep =
            of(&[HEAD, ("tuner.vpt_list.0.prompt", &[5, 128]), ("tuner.vpt_list.1.prompt", &[5, 128])]);
        let shallow = of(&[HEAD, ("tuner.vpt_list.0.prompt", &[5, 128])]);
        assert!(deep.fits(&options(&["vpt_deep"], HeadTensors::Weight)));
        assert!(!deep.fits(&options(&["vpt_shallow"], HeadTensors::Weight)));
        assert!(shallow.fits(&options(&["vpt_shallow"], HeadTensors::Weight)));
        assert!(shallow.fits(&options(&["vpt_deep"], HeadTensors::Weight)), "the model may have one block");
        assert!(!shallow.fits(&options(&["vpt_deep", "lora"], HeadTensors::Weight)));
        assert!(!shallow.fits(&options(&["vpt_shallow"], HeadTensors::WeightAndBias)));
        let alone = of(&[HEAD, ("head.bias", &[10])]);
        assert!(alone.fits(&options(&["none"], HeadTensors::WeightAndBias)));
        assert!(!alone.fits(&options(&["none"], HeadTensors::Weight)));
        assert!(of(&[]).fits(&options(&[], HeadTensors::None)));
        assert!(!of(&[HEAD]).fits(&options(&["none"], HeadTensors::None)));
    }

    #[test]
    fn a_width_that_is_set_is_that_of_the_file() {
        let lora = of(&[HEAD, ("tuner.lora_list.0.q.lora_A", &[128, 8])]);
        let options = |key, width| OfficialOptions {
            widths: BTreeMap::from([(key, width)]),
            ..options(&["lora"], HeadTensors::Weight)
        };
        assert!(lora.fits(&options("tuner.adapter_dim", 8)));
        assert!(!lora.fits(&options("tuner.adapter_dim", 4)));
        assert!(lora.fits(&options("tuner.vpt_len", 4)), "there are no prompts");
        let text = options("tuner.adapter_dim", 4).to_string();
        assert_eq!(text, "tuner.kinds=[lora], tuner.adapter_dim=4, head.kind=cosine");
    }

    #[test]
    fn a_tuner_of_ones_own_is_left_to_the_comparison_with_the_model() {
        let own = of(&[HEAD, ("tuner.own_list.0.scale", &[1])]);
        assert!(own.fits(&options(&["lora"], HeadTensors::Weight)));
        assert!(of(&[HEAD]).fits(&options(&["own"], HeadTensors::Weight)));
        assert!(own.to_string().starts_with("it holds tensors of own_list and a head"), "{own}");
    }

    #[test]
    fn what_is_held_is_said_with_the_options_for_it() {
        let lora = of(&[
            HEAD,
            ("tuner.lora_list.1.q.lora_A", &[128, 8]),
            ("tuner.lora_list.2.v.lora_A", &[128, 8]),
            ("tuner.bias_tuned.0", &[128]),
        ]);
        assert_eq!(
            lora.to_string(),
            "it holds tensors of bias_tuned, lora_list in blocks 1 to 2 and a head of 10 classes on 128 features, \
             without a bias\nhint: evaluate it with --set 'tuner.kinds=[\"bias\", \"lora\"]' --set tuner.adapter_dim=8 \
             --set 'tuner.partial=[1, 3]' and the head.kind of its training (cosine, l2_norm or layer_norm)"
        );
        assert_eq!(
            of(&[]).to_string(),
            "it holds no tensors of a tuner and no head\nhint: \
             evaluate it with --set 'tuner.kinds=[\"none\"]' --set head.kind=zero_shot"
        );
    }
}
