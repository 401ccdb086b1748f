//! Tensors that official checkpoints hold under several names: a bias that is trained as a bias and as part of a norm
//! or of a whole block is one tensor there, and is saved once for each.

use super::list_of;
use crate::weights::BlockNames;
use crate::weights::host_tensor::HostTensor;
use std::collections::{BTreeMap, BTreeSet};

/// A further name of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The further name.
    pub alias: String,
    /// The name that it is trained under: the first one in the order of the official code.
    pub name: String,
}

/// Two names of one tensor, with different values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` and `{}` are one tensor in the official code, but have different values here; the file is damaged or changed",
    .0.alias, .0.name
)]
pub struct UnequalError(pub Alias);

/// The biases of a block, in the order of its parameters.
fn biases(names: BlockNames) -> [&'static str; 6] {
    names.biases().map(|field| names.of(field))
}

/// Norms of a block.
const NORMS: usize = 2;

/// The further names that go with tensors of these names and shapes.
pub fn aliases<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize])>) -> Vec<Alias> {
    let (mut lists, mut shapes) = (BTreeMap::<&str, BTreeSet<usize>>::new(), BTreeMap::new());
    for (name, shape) in tensors {
        shapes.insert(name, shape);
        if let Some((list, rest)) = list_of(name)
            && let Some(number) = rest.split('.').next().and_then(|number| number.parse().ok())
        {
            lists.entry(list).or_default().insert(number);
        }
    }
    let numbers = |list: &str| lists.get(list).cloned().unwrap_or_default();
    let parts = biases(if is_clip(&shapes) { BlockNames::OpenAi } else { BlockNames::Timm });
    let (whole, biases, norms) = (numbers("block_tuned"), numbers("bias_tuned"), numbers("ln_tuned"));
    let ends = [
        whole.last().map(|block| block + 1),
        biases.last().map(|bias| bias / parts.len() + 1),
        norms.last().map(|norm| norm / NORMS + 1),
    ];
    let depth = ends.into_iter().flatten().max().unwrap_or(0);
    let mut found = Vec::new();
    for block in 0..depth {
        let mut norm = block * NORMS;
        for (position, part) in parts.iter().enumerate() {
            let in_whole =
                |part: &str| whole.contains(&block).then(|| format!("tuner.block_tuned.{block}.{part}"));
            let bias =
                (!biases.is_empty()).then(|| format!("tuner.bias_tuned.{}", block * parts.len() + position));
            let is_norm = part.starts_with("ln_") || part.starts_with("norm");
            let in_norm =
                |part: &str| (is_norm && !norms.is_empty()).then(|| format!("tuner.ln_tuned.{norm}.{part}"));
            note(&mut found, [in_whole(part), bias, in_norm("bias")]);
            if is_norm {
                let weight = part.replace("bias", "weight");
                note(&mut found, [in_whole(&weight), None, in_norm("weight")]);
                norm += 1;
            }
        }
    }
    found
}

/// Of the names of one tensor all but the first are aliases.
fn note(found: &mut Vec<Alias>, names: [Option<String>; 3]) {
    let mut names = names.into_iter().flatten();
    if let Some(name) = names.next() {
        found.extend(names.map(|alias| Alias { alias, name: name.clone() }));
    }
}

/// CLIP's blocks have other names than timm's, and their first bias is that of queries, keys and values: the longer one
/// of the first two.
fn is_clip(shapes: &BTreeMap<&str, &[usize]>) -> bool {
    let length = |name: &str| shapes.get(name).and_then(|shape| shape.first());
    length("tuner.bias_tuned.0") > length("tuner.bias_tuned.1")
        || shapes.keys().any(|name| name.starts_with("tuner.block_tuned.") && name.contains(".ln_1."))
}

/// Keeps of tensors with several names the one they are trained under.
pub fn merge_aliases(
    tensors: &mut BTreeMap<String, HostTensor>,
    aliases: Vec<Alias>,
) -> Result<(), UnequalError> {
    for alias in aliases {
        let Some(values) = tensors.remove(&alias.alias) else { continue };
        if *tensors.entry(alias.name.clone()).or_insert_with(|| values.clone()) != values {
            return Err(UnequalError(alias));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::dtype::DType;

    const WIDTH: usize = 4;

    /// Names and shapes of the biases and norms of `blocks` blocks, as the official code saves them.
    fn bias_and_norms(parts: [&str; 6], blocks: usize) -> Vec<(String, Vec<usize>)> {
        let length = |part: &str| match part {
            "attn.in_proj_bias" | "attn.qkv.bias" => 3 * WIDTH,
            "mlp.c_fc.bias" | "mlp.fc1.bias" => 4 * WIDTH,
            _ => WIDTH,
        };
        let biases = (0..6 * blocks).map(|i| (format!("tuner.bias_tuned.{i}"), vec![length(parts[i % 6])]));
        let norms = (0..NORMS * blocks)
            .flat_map(|i| ["weight", "bias"].map(|part| (format!("tuner.ln_tuned.{i}.{part}"), vec![WIDTH])));
        biases.chain(norms).collect()
    }

    fn pairs(tensors: &[(String, Vec<usize>)]) -> Vec<(String, String)> {
        let found = aliases(tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())));
        found.into_iter().map(|alias| (alias.alias, alias.name)).collect()
    }

    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(alias, name)| (format!("tuner.{alias}"), format!("tuner.{name}"))).collect()
    }

    #[test]
    fn biases_of_norms_have_two_names() {
        assert_eq!(
            pairs(&bias_and_norms(biases(BlockNames::OpenAi), 2)),
            expected(&[
                ("ln_tuned.0.bias", "bias_tuned.2"),
                ("ln_tuned.1.bias", "bias_tuned.5"),
                ("ln_tuned.2.bias", "bias_tuned.8"),
                ("ln_tuned.3.bias", "bias_tuned.11"),
            ])
        );
        assert_eq!(
            pairs(&bias_and_norms(biases(BlockNames::Timm), 1)),
            expected(&[("ln_tuned.0.bias", "bias_tuned.0"), ("ln_tuned.1.bias", "bias_tuned.3")])
        );
        let alone = |list: &str| {
            let both = bias_and_norms(biases(BlockNames::OpenAi), 2).into_iter();
            both.filter(|(name, _)| name.contains(list)).collect::<Vec<_>>()
        };
        assert!(pairs(&alone("ln_tuned")).is_empty() && pairs(&alone("bias_tuned")).is_empty());
    }

    #[test]
    fn a_whole_block_has_its_norms_too() {
        let name = |part: &str| (format!("tuner.block_tuned.1.{part}"), vec![WIDTH]);
        let mut tensors =
            [biases(BlockNames::OpenAi).map(name).to_vec(), vec![name("ln_1.weight"), name("ln_2.weight")]]
                .concat();
        tensors.extend(
            bias_and_norms(biases(BlockNames::OpenAi), 2)
                .into_iter()
                .filter(|(name, _)| name.contains("ln_tuned")),
        );
        assert_eq!(
            pairs(&tensors),
            expected(&[
                ("ln_tuned.2.bias", "block_tuned.1.ln_1.bias"),
                ("ln_tuned.2.weight", "block_tuned.1.ln_1.weight"),
                ("ln_tuned.3.bias", "block_tuned.1.ln_2.bias"),
                ("ln_tuned.3.weight", "block_tuned.1.ln_2.weight"),
            ])
        );
    }

    #[test]
    fn equal_values_are_one_tensor_and_others_are_refused() {
        let tensor = |value: u8| HostTensor { dtype: DType::U8, shape: vec![1], bytes: vec![value] };
        let alias = || Alias { alias: "b".to_owned(), name: "a".to_owned() };
        let merged = |values: &[(&str, u8)]| {
            let mut tensors = values.iter().map(|&(name, value)| (name.to_owned(), tensor(value))).collect();
            merge_aliases(&mut tensors, vec![alias()]).map(|()| tensors.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(merged(&[("a", 1), ("b", 1), ("c", 2)]), Ok(vec!["a".to_owned(), "c".to_owned()]));
        assert_eq!(merged(&[("a", 1)]), Ok(vec!["a".to_owned()]));
        let error = merged(&[("a", 1), ("b", 2)]).expect_err("the values differ");
        assert_eq!(error, UnequalError(alias()));
        assert!(error.to_string().starts_with("`b` and `a` are one tensor"), "{error}");
    }
}
