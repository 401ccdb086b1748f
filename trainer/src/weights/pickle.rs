//! The pickle program inside a `PyTorch` checkpoint, read as data.
//!
//! A pickle is a program for a small stack machine that may call any Python function. What
//! `torch.save` writes for tensors needs few of its instructions and six kinds of names; these alone are
//! understood here, everything else is refused by name, and nothing is ever called. Objects live in one
//! flat arena and refer to each other by index: however deep or circular the program makes them, memory
//! grows with the program's length only, and nothing recurses.
//!
//! Source of the format: the Python library's `pickletools` documentation (protocols 2 to 5) and
//! `torch.serialization` (persistent ids of storages).

mod error;
mod objects;
mod value;
mod writer;

pub use self::error::PickleError;
use self::error::opcode_name;
pub(super) use self::error::printable;
use self::value::Global;
pub use self::value::{Allowed, ObjectId, StorageRef, TensorRef, Value};
pub use self::writer::{Unwritable, write_tables};
use std::collections::HashMap;

/// Longest program read. A tensor takes about 100 bytes, so this is some 20,000 tensors.
pub const MAX_PICKLE_BYTES: usize = 2 << 20;
/// Most objects a program may make. A tensor takes about 15 of them, and 300 bytes at most.
pub const MAX_OBJECTS: usize = 300_000;
/// Most dimensions of a tensor; real ones have up to five.
pub const MAX_RANK: usize = 8;

/// What a pickle holds, by [`ObjectId`].
#[derive(Debug)]
pub struct Pickle<'a> {
    objects: Vec<Value<'a>>,
    root: ObjectId,
}

impl<'a> Pickle<'a> {
    /// Reads a whole program.
    pub fn parse(bytes: &'a [u8], allowed: Allowed) -> Result<Self, PickleError> {
        if bytes.len() > MAX_PICKLE_BYTES {
            return Err(PickleError::TooLong { found: bytes.len() });
        }
        match Self::parse_first(bytes, allowed)? {
            (pickle, length) if length == bytes.len() => Ok(pickle),
            (_, offset) => {
                Err(PickleError::Damaged { offset, problem: "bytes follow the end of the program" })
            }
        }
    }

    /// Reads the program that `bytes` begin with, and tells its length.
    pub fn parse_first(bytes: &'a [u8], allowed: Allowed) -> Result<(Self, usize), PickleError> {
        let mut machine = Machine::new(&bytes[..bytes.len().min(MAX_PICKLE_BYTES)], allowed);
        let root = machine.run()?;
        Ok((Self { objects: machine.objects, root }, machine.position))
    }

    /// The object that the program returns.
    pub fn root(&self) -> ObjectId {
        self.root
    }

    /// Every storage, as often as it is named.
    pub fn storages(&self) -> impl Iterator<Item = StorageRef<'a>> {
        self.objects.iter().filter_map(|object| match object {
            Value::Storage(storage) => Some(*storage),
            _ => None,
        })
    }

    /// The object of an id of this pickle.
    pub fn value(&self, id: ObjectId) -> &Value<'a> {
        &self.objects[id.0 as usize]
    }
}

/// The stack machine.
struct Machine<'a> {
    bytes: &'a [u8],
    allowed: Allowed,
    /// Where the next byte is read.
    position: usize,
    /// Where the instruction being obeyed began.
    instruction: usize,
    objects: Vec<Value<'a>>,
    stack: Vec<ObjectId>,
    /// Heights of the stack at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, ObjectId>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8], allowed: Allowed) -> Self {
        Self {
            bytes,
            allowed,
            position: 0,
            instruction: 0,
            objects: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    fn run(&mut self) -> Result<ObjectId, PickleError> {
        loop {
            self.instruction = self.position;
            let code = self.byte()?;
            if code == b'.' {
                break;
            }
            self.step(code)?;
        }
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.damaged("objects are left on the stack at the end"));
        }
        Ok(root)
    }

    /// Obeys one instruction. Names are those of `pickletools`.
    fn step(&mut self, code: u8) -> Result<(), PickleError> {
        match code {
            // PROTO, FRAME: the version and a length that this reader has no use for.
            0x80 => match self.byte()? {
                2..=5 => Ok(()),
                _ => Err(self.damaged("the protocol is not 2, 3, 4 or 5")),
            },
            0x95 => self.take(8).map(|_| ()),
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            // BININT, BININT1, BININT2, LONG1, BINFLOAT
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            0x8a => self.long1(),
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(value))
            }
            // BINUNICODE, SHORT_BINUNICODE
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)
            }
            0x8c => {
                let length = self.byte()?;
                self.text(length.into())
            }
            _ => self.step_container(code),
        }
    }

    fn step_container(&mut self, code: u8) -> Result<(), PickleError> {
        match code {
            // MARK
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            // TUPLE, TUPLE1, TUPLE2, TUPLE3
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push(Value::Tuple(items))
            }
            // APPEND, APPENDS
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(&items)
            }
            // SETITEM, SETITEMS
            b's' => {
                let pair = self.pop_many(2)?;
                self.extend_dict(&pair)
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(&items)
            }
            _ => self.step_reference(code),
        }
    }

    fn step_reference(&mut self, code: u8) -> Result<(), PickleError> {
        match code {
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let slot = self.byte()?;
                self.remember(slot.into())
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)
            }
            0x94 => self.remember(self.memo.len() as u32),
            // BINGET, LONG_BINGET
            b'h' => {
                let slot = self.byte()?;
                self.recall(slot.into())
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)
            }
            0x93 => {
                let pair = self.pop_many(2)?;
                match (self.value(pair[0]), self.value(pair[1])) {
                    (&Value::Text(module), &Value::Text(name)) => self.global(module, name),
                    _ => Err(self.damaged("the name of a global is not text")),
                }
            }
            // BINPERSID, REDUCE, NEWOBJ, BUILD
            b'Q' => self.persistent_id(),
            b'R' => self.reduce(),
            0x81 if self.allowed == Allowed::Objects => self.new_object(),
            b'b' => self.build(),
            _ => Err(PickleError::Opcode { offset: self.instruction, code, name: opcode_name(code) }),
        }
    }

    /// LONG1: a length byte and that many bytes of two's complement.
    fn long1(&mut self) -> Result<(), PickleError> {
        let length = usize::from(self.byte()?);
        if length > 8 {
            return Err(self.damaged("an integer has more than 64 bits"));
        }
        let digits = self.take(length)?;
        let negative = digits.last().is_some_and(|&top| top & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..length].copy_from_slice(digits);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, length: usize) -> Result<(), PickleError> {
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Text(text)),
            Err(_) => Err(self.damaged("a string is not UTF-8")),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        match Global::find(module, name, self.allowed) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(PickleError::Global {
                offset: self.instruction,
                name: format!("{}.{}", printable(module), printable(name)),
            }),
        }
    }

    /// A storage: `("storage", type, key, device, number of elements)`; before `PyTorch` 1.6 with a
    /// sixth field for views, which is `None`.
    fn persistent_id(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let Value::Tuple(fields) = self.value(id) else {
            return Err(self.damaged("a persistent id is not a tuple"));
        };
        let (&[kind, dtype, key, device, elements] | &[kind, dtype, key, device, elements, _]) =
            fields.as_slice()
        else {
            return Err(self.damaged("a persistent id has not five fields"));
        };
        if fields.get(5).is_some_and(|&view| *self.value(view) != Value::None) {
            return Err(self.damaged("a storage is a view of another"));
        }
        match [kind, dtype, key, device, elements].map(|field| self.value(field)) {
            [
                Value::Text("storage"),
                &Value::Global(Global::StorageType(dtype)),
                &Value::Text(key),
                Value::Text(_),
                &Value::Int(elements),
            ] if elements >= 0 => {
                let storage = StorageRef { dtype, key, elements: elements.unsigned_abs() };
                self.push(Value::Storage(storage))
            }
            _ => Err(self.damaged("a persistent id does not describe a storage")),
        }
    }

    /// REDUCE: "calls" the second object on the stack with the tuple on top.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let pair = self.pop_many(2)?;
        let Value::Tuple(arguments) = self.value(pair[1]) else {
            return Err(self.damaged("the arguments of a call are not a tuple"));
        };
        let result = match self.value(pair[0]) {
            Value::Global(Global::OrderedDict) if arguments.is_empty() => Value::Dict(Vec::new()),
            Value::Global(Global::RebuildTensor) => Value::Tensor(Box::new(self.rebuild_tensor(arguments)?)),
            Value::Global(Global::RebuildParameter) => {
                return self.rebuild_parameter(arguments.first().copied());
            }
            Value::Global(Global::Object) => Value::Object(None),
            Value::Global(Global::OrderedDict) => {
                return Err(self.damaged("an ordered dictionary is made from arguments"));
            }
            _ => return Err(self.damaged("something is called that is not an allowed function")),
        };
        self.push(result)
    }

    /// NEWOBJ: an object of a class, before it gets its attributes.
    fn new_object(&mut self) -> Result<(), PickleError> {
        let pair = self.pop_many(2)?;
        match (self.value(pair[0]), self.value(pair[1])) {
            (Value::Global(Global::Object), Value::Tuple(_)) => self.push(Value::Object(None)),
            _ => Err(self.damaged("an object is made of something that is not an allowed class")),
        }
    }

    /// `_rebuild_parameter(data, requires_grad, hooks)` is its tensor.
    fn rebuild_parameter(&mut self, data: Option<ObjectId>) -> Result<(), PickleError> {
        match data {
            Some(id) if matches!(self.value(id), Value::Tensor(_)) => {
                self.stack.push(id);
                Ok(())
            }
            _ => Err(self.damaged("a parameter holds no tensor")),
        }
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`.
    fn rebuild_tensor(&self, arguments: &[ObjectId]) -> Result<TensorRef<'a>, PickleError> {
        if !(6..=7).contains(&arguments.len()) {
            return Err(self.damaged("a tensor is made from other than six or seven arguments"));
        }
        let (&Value::Storage(storage), &Value::Int(offset)) =
            (self.value(arguments[0]), self.value(arguments[1]))
        else {
            return Err(self.damaged("a tensor has no storage or no offset"));
        };
        let offset = u64::try_from(offset).map_err(|_| self.damaged("a tensor's offset is negative"))?;
        let shape = self.sizes(arguments[2])?;
        let strides = self.sizes(arguments[3])?;
        if shape.len() != strides.len() {
            return Err(self.damaged("a tensor has more sizes than strides, or fewer"));
        }
        Ok(TensorRef { storage, offset, shape, strides })
    }

    fn sizes(&self, id: ObjectId) -> Result<Vec<u64>, PickleError> {
        let Value::Tuple(items) = self.value(id) else {
            return Err(self.damaged("a tensor's sizes or strides are not a tuple"));
        };
        if items.len() > MAX_RANK {
            return Err(self.damaged("a tensor has more than 8 dimensions"));
        }
        let size = |&item: &ObjectId| match self.value(item) {
            Value::Int(size) => u64::try_from(*size).ok(),
            _ => None,
        };
        let sizes: Option<Vec<u64>> = items.iter().map(size).collect();
        sizes.ok_or_else(|| self.damaged("a tensor's size or stride is not a number of at least zero"))
    }

    /// BUILD: gives an object its attributes. `state_dict()` hangs version numbers on its ordered
    /// dictionary in this way (`_metadata`); they say nothing of tensors and are let go. So is a state that
    /// is no dictionary, which belongs to an object without tensors.
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let built = self.top()?;
        match (self.value(built), self.value(state)) {
            (Value::Object(_), Value::Dict(_)) => {
                self.objects[built.0 as usize] = Value::Object(Some(state));
                Ok(())
            }
            (Value::Object(_), _) | (Value::Dict(_), Value::Dict(_)) => Ok(()),
            _ => Err(self.damaged("BUILD is used on something that is not a dictionary")),
        }
    }

    fn extend_list(&mut self, items: &[ObjectId]) -> Result<(), PickleError> {
        let list = self.top()?;
        match &mut self.objects[list.0 as usize] {
            Value::List(all) => {
                all.extend_from_slice(items);
                Ok(())
            }
            _ => Err(self.damaged("something is appended to an object that is not a list")),
        }
    }

    fn extend_dict(&mut self, items: &[ObjectId]) -> Result<(), PickleError> {
        if !items.len().is_multiple_of(2) {
            return Err(self.damaged("a key has no value"));
        }
        let dict = self.top()?;
        match &mut self.objects[dict.0 as usize] {
            Value::Object(_) => Ok(()),
            Value::Dict(all) => {
                all.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err(self.damaged("an item is set in an object that is not a dictionary")),
        }
    }

    fn remember(&mut self, slot: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), PickleError> {
        match self.memo.get(&slot) {
            Some(&id) => {
                self.stack.push(id);
                Ok(())
            }
            None => Err(self.damaged("an object is recalled that was never remembered")),
        }
    }

    fn value(&self, id: ObjectId) -> &Value<'a> {
        &self.objects[id.0 as usize]
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        if self.objects.len() == MAX_OBJECTS {
            return Err(PickleError::TooManyObjects);
        }
        self.stack.push(ObjectId(self.objects.len() as u32));
        self.objects.push(value);
        Ok(())
    }

    /// Lowest height that instructions without a mark may go down to.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<ObjectId, PickleError> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err(self.damaged("the stack is empty")),
        }
    }

    fn pop(&mut self) -> Result<ObjectId, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<ObjectId>, PickleError> {
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= self.floor() => Ok(self.stack.split_off(height)),
            _ => Err(self.damaged("the stack is empty")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<ObjectId>, PickleError> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => Err(self.damaged("a mark is missing")),
        }
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let bytes = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or(PickleError::EndsEarly {
            offset: self.position,
            needed: length as u64,
            left: rest.len(),
        })?;
        self.position += length;
        Ok(taken)
    }

    /// Text up to the next line feed.
    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.bytes[self.position..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(PickleError::EndsEarly {
                offset: self.position,
                needed: rest.len() as u64 + 1,
                left: rest.len(),
            });
        };
        self.position += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| self.damaged("the name of a global is not UTF-8"))
    }

    fn damaged(&self, problem: &'static str) -> PickleError {
        PickleError::Damaged { offset: self.instruction, problem }
    }
}

#[cfg(test)]
mod tests;
