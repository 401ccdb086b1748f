//! Writes the pickle of dictionaries of tensors, as `torch.save` does: protocol 2, with each tensor a view of a storage
//! that is stored beside the pickle under a key.

use super::value::{TensorRef, storage_of};
use crate::weights::dtype::DType;

/// A tensor that such a pickle cannot represent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// PyTorch has no storage of these elements.
    #[error("tensor `{tensor}` has the element type {found}, for which PyTorch has no storage")]
    Type {
        /// Its name.
        tensor: String,
        /// Its element type.
        found: DType,
    },
    /// A size that exceeds the limit of Python's own writer.
    #[error("tensor `{tensor}` has a size of more than 63 bits")]
    Size {
        /// Its name.
        tensor: String,
    },
}

/// `{TABLE: OrderedDict([(NAME, tensor), ...]), ...}`, in the order given.
pub fn write_tables<'a>(tables: &[(&str, Vec<(&'a str, TensorRef<'a>)>)]) -> Result<Vec<u8>, Unwritable> {
    let mut program = Program(vec![0x80, 2]);
    program.0.extend(b"}(");
    for (table, tensors) in tables {
        program.text(table);
        program.empty_ordered_dict();
        program.0.push(b'(');
        for (name, tensor) in tensors {
            program.text(name);
            program.tensor(name, tensor)?;
        }
        program.0.push(b'u');
    }
    program.0.extend(b"u.");
    Ok(program.0)
}

/// Instructions, with the names of `pickletools`.
struct Program(Vec<u8>);

impl Program {
    /// A call of the function that PyTorch rebuilds tensors with: storage, offset, shape, strides, whether a gradient
    /// is wanted, and an empty table of hooks.
    fn tensor(&mut self, name: &str, tensor: &TensorRef<'_>) -> Result<(), Unwritable> {
        let (storage, size) = (&tensor.storage, || Unwritable::Size { tensor: name.to_owned() });
        let class = storage_of(storage.dtype)
            .ok_or_else(|| Unwritable::Type { tensor: name.to_owned(), found: storage.dtype })?;
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", class);
        self.text(storage.key);
        self.text("cpu");
        self.integer(storage.elements).ok_or_else(size)?;
        // TUPLE, BINPERSID: the tuple names the storage.
        self.0.extend(b"tQ");
        self.integer(tensor.offset).ok_or_else(size)?;
        for numbers in [&tensor.shape, &tensor.strides] {
            self.0.push(b'(');
            numbers.iter().try_for_each(|&number| self.integer(number)).ok_or_else(size)?;
            self.0.push(b't');
        }
        // NEWFALSE
        self.0.push(0x89);
        self.empty_ordered_dict();
        // TUPLE, REDUCE: the call.
        self.0.extend(b"tR");
        Ok(())
    }

    fn empty_ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        // EMPTY_TUPLE, REDUCE
        self.0.extend(b")R");
    }

    /// GLOBAL
    fn global(&mut self, module: &str, name: &str) {
        self.0.push(b'c');
        for line in [module, name] {
            self.0.extend(line.as_bytes());
            self.0.push(b'\n');
        }
    }

    /// BINUNICODE. Names are far shorter than 4 GiB.
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    /// BININT, or LONG1 of eight bytes.
    fn integer(&mut self, number: u64) -> Option<()> {
        if let Ok(number) = i32::try_from(number) {
            self.0.push(b'J');
            self.0.extend(number.to_le_bytes());
        } else {
            self.0.extend([0x8a, 8]);
            self.0.extend(i64::try_from(number).ok()?.to_le_bytes());
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Allowed, StorageRef, TorchObject, TorchPickle, TorchValue};
    use super::*;

    fn tensor(dtype: DType, key: &str, shape: &[u64]) -> TensorRef<'static> {
        let storage = StorageRef { dtype, key: key.to_owned().leak(), elements: shape.iter().product() };
        let strides = (1..=shape.len()).map(|from| shape[from..].iter().product()).collect();
        TensorRef { storage, offset: 0, shape: shape.to_vec(), strides }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let tuner = vec![
            ("lora_list.0.q.lora_A", tensor(DType::F32, "0", &[128, 8])),
            ("half", tensor(DType::F16, "1", &[])),
            ("none", tensor(DType::F64, "2", &[0])),
            ("far", tensor(DType::I64, "3", &[3_000_000_000])),
        ];
        let tables = [("tuner", tuner), ("head", Vec::new())];
        let program = write_tables(&tables).expect("plain tensors");
        let pickle = TorchPickle::parse(&program, Allowed::Tensors).expect("it is read again");
        let TorchValue::Dict(found) = pickle.value(pickle.root()) else {
            panic!("no dictionary: {pickle:?}")
        };
        assert_eq!(found.len(), 2);
        for (&(name, table), (expected, tensors)) in found.iter().zip(&tables) {
            assert_eq!(pickle.value(name), &TorchValue::Text(expected));
            let TorchValue::Dict(entries) = pickle.value(table) else { panic!("no dictionary: {pickle:?}") };
            let values = entries.iter().map(|&(name, value)| (pickle.value(name), pickle.value(value)));
            let expected: Vec<(TorchValue<'_>, TorchValue<'_>)> = tensors
                .iter()
                .map(|(name, tensor)| {
                    (
                        TorchValue::Text(name),
                        TorchValue::Special(TorchObject::Tensor(Box::new(tensor.clone()))),
                    )
                })
                .collect();
            assert!(values.eq(expected.iter().map(|(name, value)| (name, value))));
        }
    }

    #[test]
    fn what_python_could_not_read_is_refused() {
        let other = DType::Other(safetensors::Dtype::F8_E4M3);
        let error = write_tables(&[("tuner", vec![("a", tensor(other, "0", &[1]))])]);
        assert_eq!(error, Err(Unwritable::Type { tensor: "a".to_owned(), found: other }));
        let error = write_tables(&[("tuner", vec![("a", tensor(DType::U8, "0", &[u64::MAX]))])]);
        assert_eq!(error, Err(Unwritable::Size { tensor: "a".to_owned() }));
    }
}
