//! The pickles of `PyTorch`'s files of tensors: the globals that they may name, and the resulting tensors.
//!
//! What `torch.save` writes for tensors needs six kinds of names beside plain data. Source of the format:
//! `torch.serialization` (persistent ids of storages) and `torch._utils`.

mod objects;
mod value;
mod writer;

use self::value::Global;
pub use self::value::{Allowed, StorageRef, TensorRef, TorchObject};
pub use self::writer::{Unwritable, write_tables};
use crate::pickle::{AllowList, ObjectId, Objects};

/// Longest program read. A tensor takes about 100 bytes, so this is some 20,000 tensors.
pub const MAX_PICKLE_BYTES: usize = 2 << 20;
/// Most objects a program may make. A tensor takes about 15 of them, and 300 bytes at most.
pub const MAX_OBJECTS: usize = 300_000;
/// Most dimensions of a tensor; real ones have up to five.
pub const MAX_RANK: usize = 8;

/// A pickle of tensors.
pub type TorchPickle<'a> = crate::pickle::Pickle<'a, TorchObject<'a>>;
/// An object of such a pickle.
pub type TorchValue<'a> = crate::pickle::Value<'a, TorchObject<'a>>;

type Torch<'a> = Objects<'a, TorchObject<'a>>;
type Outcome<T> = Result<T, &'static str>;

/// Every storage of a pickle, as often as it is named.
pub fn storages<'p, 'a>(pickle: &'p TorchPickle<'a>) -> impl Iterator<Item = StorageRef<'a>> + use<'p, 'a> {
    pickle.objects().iter().filter_map(|object| match object {
        TorchValue::Special(TorchObject::Storage(storage)) => Some(*storage),
        _ => None,
    })
}

impl<'a> AllowList<'a> for Allowed {
    type Special = TorchObject<'a>;
    const FILE: &'static str = "a checkpoint of tensors";
    const WRITTEN_BY: &'static str = "as `torch.save(model.state_dict(), FILE)` writes it";
    const MAX_BYTES: usize = MAX_PICKLE_BYTES;
    const MAX_OBJECTS: usize = MAX_OBJECTS;

    fn allows_opcode(&self, code: u8) -> bool {
        match code {
            b'Q' => true,
            0x81 => *self == Self::Objects,
            _ => false,
        }
    }

    fn find_class(&self, module: &str, name: &str) -> Option<TorchObject<'a>> {
        Global::find(module, name, *self).map(TorchObject::Global)
    }

    fn reduce(
        &self,
        objects: &Torch<'a>,
        callable: &TorchObject<'a>,
        arguments: &[ObjectId],
    ) -> Outcome<TorchValue<'a>> {
        let object = match callable {
            TorchObject::Global(Global::OrderedDict) if arguments.is_empty() => {
                return Ok(TorchValue::Dict(Vec::new()));
            }
            TorchObject::Global(Global::OrderedDict) => {
                return Err("an ordered dictionary is made from arguments");
            }
            TorchObject::Global(Global::RebuildTensor) => {
                TorchObject::Tensor(Box::new(rebuild_tensor(objects, arguments)?))
            }
            TorchObject::Global(Global::RebuildParameter) => rebuild_parameter(objects, arguments)?,
            TorchObject::Global(Global::Object) => TorchObject::Object(None),
            _ => return Err("something is called that is not an allowed function"),
        };
        Ok(TorchValue::Special(object))
    }

    fn new_object(&self, class: &TorchObject<'a>) -> Option<TorchObject<'a>> {
        (*class == TorchObject::Global(Global::Object)).then_some(TorchObject::Object(None))
    }

    /// A state that is not a dictionary belongs to an object without tensors, and is discarded.
    fn build(
        &self,
        objects: &Torch<'a>,
        object: &TorchObject<'a>,
        state: ObjectId,
    ) -> Outcome<TorchObject<'a>> {
        match (object, objects.value(state)) {
            (TorchObject::Object(_), TorchValue::Dict(_)) => Ok(TorchObject::Object(Some(state))),
            (&TorchObject::Object(attributes), _) => Ok(TorchObject::Object(attributes)),
            _ => Err("BUILD is used on something that is not a dictionary"),
        }
    }

    fn takes_items(&self, object: &TorchObject<'a>) -> bool {
        matches!(object, TorchObject::Object(_))
    }

    /// A storage: `("storage", type, key, device, number of elements)`; before `PyTorch` 1.6 with a
    /// sixth field for views, which is `None`.
    fn persistent_load(&self, objects: &Torch<'a>, id: ObjectId) -> Outcome<TorchValue<'a>> {
        let TorchValue::Tuple(fields) = objects.value(id) else {
            return Err("a persistent id is not a tuple");
        };
        let (&[kind, dtype, key, device, elements] | &[kind, dtype, key, device, elements, _]) =
            fields.as_slice()
        else {
            return Err("a persistent id has not five fields");
        };
        if fields.get(5).is_some_and(|&view| *objects.value(view) != TorchValue::None) {
            return Err("a storage is a view of another");
        }
        match [kind, dtype, key, device, elements].map(|field| objects.value(field)) {
            [
                TorchValue::Text("storage"),
                &TorchValue::Special(TorchObject::Global(Global::StorageType(dtype))),
                &TorchValue::Text(key),
                TorchValue::Text(_),
                &TorchValue::Int(elements),
            ] if elements >= 0 => {
                let storage = StorageRef { dtype, key, elements: elements.unsigned_abs() };
                Ok(TorchValue::Special(TorchObject::Storage(storage)))
            }
            _ => Err("a persistent id does not describe a storage"),
        }
    }
}

/// `_rebuild_parameter(data, requires_grad, hooks)` is its tensor.
fn rebuild_parameter<'a>(objects: &Torch<'a>, arguments: &[ObjectId]) -> Outcome<TorchObject<'a>> {
    match arguments.first().map(|&data| objects.value(data)) {
        Some(TorchValue::Special(TorchObject::Tensor(tensor))) => Ok(TorchObject::Tensor(tensor.clone())),
        _ => Err("a parameter holds no tensor"),
    }
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
fn rebuild_tensor<'a>(objects: &Torch<'a>, arguments: &[ObjectId]) -> Outcome<TensorRef<'a>> {
    if !(6..=7).contains(&arguments.len()) {
        return Err("a tensor is made from other than six or seven arguments");
    }
    let (&TorchValue::Special(TorchObject::Storage(storage)), &TorchValue::Int(offset)) =
        (objects.value(arguments[0]), objects.value(arguments[1]))
    else {
        return Err("a tensor has no storage or no offset");
    };
    let offset = u64::try_from(offset).map_err(|_| "a tensor's offset is negative")?;
    let shape = sizes(objects, arguments[2])?;
    let strides = sizes(objects, arguments[3])?;
    if shape.len() != strides.len() {
        return Err("a tensor has more sizes than strides, or fewer");
    }
    Ok(TensorRef { storage, offset, shape, strides })
}

fn sizes(objects: &Torch<'_>, id: ObjectId) -> Outcome<Vec<u64>> {
    let TorchValue::Tuple(items) = objects.value(id) else {
        return Err("a tensor's sizes or strides are not a tuple");
    };
    if items.len() > MAX_RANK {
        return Err("a tensor has more than 8 dimensions");
    }
    let size = |&item: &ObjectId| match objects.value(item) {
        TorchValue::Int(size) => u64::try_from(*size).ok(),
        _ => None,
    };
    let sizes: Option<Vec<u64>> = items.iter().map(size).collect();
    sizes.ok_or("a tensor's size or stride is not a number of at least zero")
}

#[cfg(test)]
mod tests;
