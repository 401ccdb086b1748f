//! Converts the layouts of weight files to the names of OpenAI's CLIP or of timm's ViT.

mod architecture;
mod rename;

use self::rename::{
    HUGGING_FACE_CLIP, HUGGING_FACE_DINOV2, HUGGING_FACE_SIGLIP, HUGGING_FACE_VIT, TIMM_CLIP,
};
use super::named::{NamedTensors, WeightsError};
use super::naming::{Naming, TensorLayout, plain, recognise};
use std::collections::BTreeMap;
use tch::Tensor;

type Tensors = BTreeMap<String, Tensor>;

/// Whether a backbone of a known layout is among tensors of these names.
pub(super) fn holds_backbone(names: &[&str]) -> bool {
    recognise(names.iter().copied()).is_some()
}

/// Detects the layout, removes a common prefix from the names, and converts them to one of two layouts. An
/// unsupported model is refused with the name of its architecture.
pub fn normalise(tensors: NamedTensors) -> Result<(NamedTensors, TensorLayout), WeightsError> {
    if tensors.names().next().is_none() {
        return Err(WeightsError::NoTensors { file: tensors.file() });
    }
    architecture::refuse_by_names(&tensors)?;
    let Some((naming, prefixes)) = recognise(tensors.names()) else {
        return Err(architecture::unknown(&tensors));
    };
    let [prefix] = &prefixes[..] else {
        let prefixes = prefixes.iter().map(|prefix| format!("`{prefix}`")).collect::<Vec<_>>().join(" and ");
        return Err(WeightsError::Several { file: tensors.file(), prefixes });
    };
    let file = tensors.file();
    let mut notes = Vec::new();
    if tensors.names().any(|name| plain(name) != name) {
        notes.push(
            "the parts that module wrappers add to names (such as `_orig_mod.`) are removed".to_owned(),
        );
    }
    if !naming.own_prefix(prefix).is_empty() {
        notes.push(format!("the names begin with `{}`, which is removed", naming.own_prefix(prefix)));
    }
    let mut tensors = tensors.map(|all| {
        let mut all = without_prefix(all, prefix, &file)?;
        pass_over(&mut all, naming, &mut notes);
        to_layout(all, naming, &file)
    })?;
    tensors.read_as(naming, notes);
    architecture::refuse_by_structure(&tensors, naming.layout())?;
    Ok((tensors, naming.layout()))
}

/// Names without `prefix` and without the parts that module wrappers add. A name without the prefix is unchanged,
/// and the reader refuses it.
fn without_prefix(tensors: Tensors, prefix: &str, file: &str) -> Result<Tensors, WeightsError> {
    let mut all = Tensors::new();
    for (name, tensor) in tensors {
        let plain = plain(&name);
        let short = plain.strip_prefix(prefix).unwrap_or(&name).to_owned();
        if all.contains_key(&short) {
            return Err(WeightsError::Twice {
                file: file.to_owned(),
                tensor: short,
                prefix: prefix.to_owned(),
            });
        }
        all.insert(short, tensor);
    }
    Ok(all)
}

/// Removes tensors that do not affect the results.
fn pass_over(tensors: &mut Tensors, naming: Naming, notes: &mut Vec<String>) {
    // Buffers of integer positions belong to no layer of the model.
    tensors.retain(|name, _| !name.ends_with("position_ids"));
    match naming {
        Naming::HuggingFaceVit => tensors.retain(|name, _| {
            !["pooler.", "classifier.", "embeddings.mask_token"].iter().any(|part| name.contains(part))
        }),
        Naming::HuggingFaceDinov2 => {
            tensors.retain(|name, _| !name.contains("classifier."));
            pass_over_mask(tensors, "embeddings.mask_token", notes);
        }
        Naming::Timm => pass_over_mask(tensors, "mask_token", notes),
        Naming::TimmSiglip | Naming::HuggingFaceSiglip => pass_over_texts(tensors, notes),
        // The head: timm projects the class token into the joint space, or to ImageNet's classes.
        Naming::TimmClip => tensors.retain(|name, _| !name.starts_with("head.")),
        _ => {}
    }
    if tensors.remove("logit_bias").is_some() {
        notes.push("`logit_bias` is ignored: it adds the same number to every class".to_owned());
    }
}

/// Removes DINOv2's mask token.
fn pass_over_mask(tensors: &mut Tensors, name: &str, notes: &mut Vec<String>) {
    if tensors.remove(name).is_some() {
        notes.push(format!("`{name}` is ignored: it replaces masked patches in pretraining"));
    }
}

/// Removes SigLIP's text tower, and the scale and bias of its similarities.
fn pass_over_texts(tensors: &mut Tensors, notes: &mut Vec<String>) {
    let before = tensors.len();
    tensors.retain(|name, _| {
        !["text_model.", "text.", "logit_scale", "logit_bias"].iter().any(|part| name.starts_with(part))
    });
    if tensors.len() < before {
        notes.push(
            "the text tower of this SigLIP is ignored: its SentencePiece tokenizer is not supported"
                .to_owned(),
        );
    }
}

fn to_layout(mut tensors: Tensors, naming: Naming, file: &str) -> Result<Tensors, WeightsError> {
    let mut tensors = match naming {
        Naming::Timm | Naming::TimmSiglip => return Ok(with_timms_registers(tensors)),
        Naming::HuggingFaceVit => return HUGGING_FACE_VIT.apply(tensors, file),
        Naming::HuggingFaceDinov2 => return HUGGING_FACE_DINOV2.apply(tensors, file),
        Naming::HuggingFaceSiglip => return siglip_to_timm(tensors, file),
        Naming::HuggingFaceSiglipTower => return siglip_to_timm(below("vision_model.", tensors), file),
        Naming::OpenAi => without_text_prefix(tensors, file)?,
        Naming::OpenAiTower => below("visual.", tensors),
        Naming::TimmClip => {
            reshape(&mut tensors, "cls_token", |shape| {
                matches!(shape, [1, 1, _]).then(|| shape[2..].to_vec())
            });
            reshape(&mut tensors, "pos_embed", |shape| {
                matches!(shape, [1, _, _]).then(|| shape[1..].to_vec())
            });
            TIMM_CLIP.apply(tensors, file)?
        }
        Naming::HuggingFaceClip => transposed(HUGGING_FACE_CLIP.apply(tensors, file)?),
        Naming::HuggingFaceTower => HUGGING_FACE_CLIP.apply(below("vision_model.", tensors), file)?,
    };
    reshape(&mut tensors, "logit_scale", |shape| (shape == [1]).then(Vec::new));
    if !tensors.contains_key("token_embedding.weight") {
        // It scales similarities with texts.
        tensors.remove("logit_scale");
    }
    Ok(tensors)
}

/// The original DINOv2 has timm's names except for this one.
fn with_timms_registers(mut tensors: Tensors) -> Tensors {
    if let Some(registers) = tensors.remove("register_tokens") {
        tensors.insert("reg_token".to_owned(), registers);
    }
    tensors
}

/// Hugging Face's SigLIP: one product for queries, keys and values of the pooling, where timm has one for queries and one
/// for keys and values; positions as a table.
fn siglip_to_timm(tensors: Tensors, file: &str) -> Result<Tensors, WeightsError> {
    let mut tensors = HUGGING_FACE_SIGLIP.apply(tensors, file)?;
    reshape(&mut tensors, "pos_embed", |shape| matches!(shape, [_, _]).then(|| [&[1], shape].concat()));
    for field in ["weight", "bias"] {
        let joined = format!("attn_pool.in_proj_{field}");
        let thirds = |tensor: &Tensor| tensor.size().first().is_some_and(|rows| rows % 3 == 0);
        if tensors.get(&joined).is_some_and(thirds)
            && let Some(tensor) = tensors.remove(&joined)
        {
            let third = tensor.size()[0] / 3;
            tensors.insert(format!("attn_pool.q.{field}"), tensor.narrow(0, 0, third));
            tensors.insert(format!("attn_pool.kv.{field}"), tensor.narrow(0, third, 2 * third));
        }
    }
    Ok(tensors)
}

/// `CustomTextCLIP` of `open_clip` has its text tower below `text.`.
fn without_text_prefix(tensors: Tensors, file: &str) -> Result<Tensors, WeightsError> {
    if tensors.contains_key("text.token_embedding.weight") && !tensors.contains_key("token_embedding.weight")
    {
        without_prefix(tensors, "text.", file)
    } else {
        Ok(tensors)
    }
}

fn below(prefix: &str, tensors: Tensors) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// Hugging Face's projections are linear layers: `[joint, width]` where OpenAI has `[width, joint]`.
fn transposed(mut tensors: Tensors) -> Tensors {
    for name in ["visual.proj", "text_projection"] {
        if let Some(tensor) = tensors.get_mut(name)
            && tensor.dim() == 2
        {
            *tensor = tensor.transpose(0, 1);
        }
    }
    tensors
}

/// Gives a tensor another shape, if `shape` has one for the shape it comes in.
fn reshape(tensors: &mut Tensors, name: &str, shape: impl Fn(&[i64]) -> Option<Vec<i64>>) {
    if let Some(tensor) = tensors.get_mut(name)
        && let Some(shape) = shape(&tensor.size())
    {
        *tensor = tensor.reshape(&shape);
    }
}

#[cfg(test)]
mod tests;
