//! Names that come beside tensors in the files of a `TorchScript` program or of a training script, and that
//! change nothing about the tensors. An object of theirs is its attributes; what would compute is left out.

/// Modules and the names in them.
const KNOWN: [(&str, &[&str]); 12] = [
    ("argparse", &["Namespace"]),
    ("collections", &["Counter", "defaultdict"]),
    ("builtins", PLAIN),
    ("__builtin__", PLAIN),
    ("_codecs", &["encode"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", NUMPY),
    ("numpy._core.multiarray", NUMPY),
    ("pathlib", &["Path", "PosixPath", "PurePosixPath"]),
    ("torch", TORCH),
    ("torch.jit._pickle", JIT),
    ("torch.serialization", &["_get_layout"]),
];

const PLAIN: &[&str] =
    &["bytearray", "complex", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"];
const JIT: &[&str] =
    &["build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag"];
const NUMPY: &[&str] = &["_reconstruct", "scalar"];
const TORCH: &[&str] = &[
    "Size", "bfloat16", "bool", "device", "float16", "float32", "float64", "int32", "int64", "int8", "uint8",
];

/// Whether a name is one of them. Modules of a `TorchScript` program lie below `__torch__`.
pub(super) fn is_known(module: &str, name: &str) -> bool {
    module == "__torch__"
        || module.starts_with("__torch__.")
        || KNOWN.iter().any(|(known, names)| *known == module && names.contains(&name))
}
