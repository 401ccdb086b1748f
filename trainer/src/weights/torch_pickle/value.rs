//! The objects in a pickle of tensors.

use super::objects;
use crate::pickle::ObjectId;
use crate::weights::dtype::DType;

/// The objects in such a pickle that are not plain data.
#[derive(Debug, Clone, PartialEq)]
pub enum TorchObject<'a> {
    /// A tensor: a view of a storage.
    Tensor(Box<TensorRef<'a>>),
    /// A storage of its own.
    Storage(StorageRef<'a>),
    /// An allowed function or class.
    Global(Global),
    /// An object of a class that is known by name alone, with the dictionary of its attributes.
    Object(Option<ObjectId>),
}

/// A file entry of raw numbers, by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageRef<'a> {
    /// Element type.
    pub dtype: DType,
    /// Name of the archive's entry, below `data/`.
    pub key: &'a str,
    /// Number of elements, as declared.
    pub elements: u64,
}

/// A strided view of a storage; offset and strides count elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef<'a> {
    /// The numbers.
    pub storage: StorageRef<'a>,
    /// Position of the first element.
    pub offset: u64,
    /// Sizes of the dimensions.
    pub shape: Vec<u64>,
    /// Steps of the dimensions.
    pub strides: Vec<u64>,
}

/// Which names a program may use beyond those of tensors. Nothing is ever called, whatever is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// None.
    Tensors,
    /// Modules of `TorchScript`, and what training scripts keep beside the tensors.
    Objects,
}

/// The names a checkpoint of tensors may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Global {
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch.FloatStorage` and its like.
    StorageType(DType),
    /// An object that is known only by its name.
    Object,
}

impl Global {
    /// The allowed function or class of that name.
    pub(super) fn find(module: &str, name: &str, allowed: Allowed) -> Option<Self> {
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", _) if let Some(dtype) = dtype_of(name) => Self::StorageType(dtype),
            _ if allowed == Allowed::Objects && objects::is_known(module, name) => Self::Object,
            _ => return None,
        })
    }
}

/// Classes of storages, by the type of their elements.
const STORAGES: [(DType, &str); 10] = [
    (DType::F64, "DoubleStorage"),
    (DType::F32, "FloatStorage"),
    (DType::F16, "HalfStorage"),
    (DType::Bf16, "BFloat16Storage"),
    (DType::I64, "LongStorage"),
    (DType::I32, "IntStorage"),
    (DType::I16, "ShortStorage"),
    (DType::I8, "CharStorage"),
    (DType::U8, "ByteStorage"),
    (DType::Bool, "BoolStorage"),
];

fn dtype_of(storage: &str) -> Option<DType> {
    STORAGES.iter().find(|(_, name)| *name == storage).map(|&(dtype, _)| dtype)
}

/// The class in `torch` of a storage of such elements.
pub(super) fn storage_of(dtype: DType) -> Option<&'static str> {
    STORAGES.iter().find(|(other, _)| *other == dtype).map(|&(_, name)| name)
}
