//! The stack machine. Instructions have the names of `pickletools`.

use super::error::opcode_name;
use super::{AllowList, ObjectId, Objects, PickleError, Value, printable};
use std::collections::HashMap;

pub(super) struct Machine<'a, L: AllowList<'a>> {
    bytes: &'a [u8],
    allowed: L,
    /// Offset of the next byte.
    position: usize,
    /// Offset of the current instruction.
    instruction: usize,
    objects: Objects<'a, L::Special>,
    stack: Vec<ObjectId>,
    /// Heights of the stack at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, ObjectId>,
}

type Object<'a, L> = Value<'a, <L as AllowList<'a>>::Special>;

impl<'a, L: AllowList<'a>> Machine<'a, L> {
    pub(super) fn new(bytes: &'a [u8], allowed: L) -> Self {
        Self {
            bytes,
            allowed,
            position: 0,
            instruction: 0,
            objects: Objects(Vec::new()),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// The objects of the pickle, the one it returns, and the length of the program.
    pub(super) fn run(mut self) -> Result<(Objects<'a, L::Special>, ObjectId, usize), PickleError> {
        loop {
            self.instruction = self.position;
            let [code] = self.array()?;
            if code == b'.' {
                break;
            }
            if is_rare(code) && !self.allowed.allows_opcode(code) {
                return Err(self.refused(code));
            }
            self.step(code)?;
        }
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.damaged("objects are left on the stack at the end"));
        }
        Ok((self.objects, root, self.position))
    }

    /// Executes one instruction: most push an object.
    fn step(&mut self, code: u8) -> Result<(), PickleError> {
        let object = match code {
            // NONE, NEWTRUE, NEWFALSE
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool(code == 0x88),
            // BININT, BININT1, BININT2, LONG1, INT, BINFLOAT
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            0x8a => self.long1()?,
            b'I' => self.int()?,
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            // SHORT_BINSTRING, SHORT_BINBYTES, BINSTRING, BINBYTES, BINBYTES8
            b'U' | b'C' => Value::Bytes(self.string(1)?),
            b'T' | b'B' => Value::Bytes(self.string(4)?),
            0x8e => Value::Bytes(self.string(8)?),
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, TUPLE, LIST, TUPLE1, TUPLE2, TUPLE3
            b')' => Value::Tuple(Vec::new()),
            b']' => Value::List(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b't' => Value::Tuple(self.pop_to_mark()?),
            b'l' => Value::List(self.pop_to_mark()?),
            0x85..=0x87 => Value::Tuple(self.pop_many(usize::from(code - 0x84))?),
            // GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, BINPERSID
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?
            }
            0x93 => self.stack_global()?,
            b'R' => self.reduce()?,
            0x81 => self.new_object()?,
            b'Q' => {
                let id = self.pop()?;
                let loaded = self.allowed.persistent_load(&self.objects, id);
                loaded.map_err(|problem| self.damaged(problem))?
            }
            _ => return self.step_in_place(code),
        };
        self.push(object)
    }

    /// Instructions that make no object.
    fn step_in_place(&mut self, code: u8) -> Result<(), PickleError> {
        match code {
            // PROTO, FRAME: the version and a length that this reader has no use for.
            0x80 if !(2..=5).contains(&self.number(1)?) => {
                return Err(self.damaged("the protocol is not 2, 3, 4 or 5"));
            }
            0x80 => {}
            0x95 => drop(self.take(8)?),
            // MARK, POP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            // APPEND, APPENDS
            b'a' | b'e' => {
                let items = if code == b'a' { self.pop_many(1)? } else { self.pop_to_mark()? };
                self.extend_list(&items)?;
            }
            // SETITEM, SETITEMS
            b's' | b'u' => {
                let items = if code == b's' { self.pop_many(2)? } else { self.pop_to_mark()? };
                self.extend_dict(&items)?;
            }
            b'b' => self.build()?,
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' | b'r' | 0x94 => {
                let slot = if code == 0x94 { self.memo.len() as u32 } else { self.slot(code == b'r')? };
                let top = self.top()?;
                self.memo.insert(slot, top);
            }
            // BINGET, LONG_BINGET
            b'h' | b'j' => {
                let slot = self.slot(code == b'j')?;
                let id = self.memo.get(&slot).copied();
                let never = || self.damaged("an object is recalled that was never remembered");
                let id = id.ok_or_else(never)?;
                self.stack.push(id);
            }
            _ => return Err(self.refused(code)),
        }
        Ok(())
    }

    /// LONG1: a length byte and that many bytes of two's complement.
    fn long1(&mut self) -> Result<Object<'a, L>, PickleError> {
        let length = self.number(1)?;
        if length > 8 {
            return Err(self.damaged("an integer has more than 64 bits"));
        }
        let digits = self.take(length)?;
        let negative = digits.last().is_some_and(|&top| top & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..digits.len()].copy_from_slice(digits);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    /// INT: digits, or a truth value of Python 2.
    fn int(&mut self) -> Result<Object<'a, L>, PickleError> {
        match self.line()?.trim() {
            "00" => Ok(Value::Bool(false)),
            "01" => Ok(Value::Bool(true)),
            digits => {
                let number = digits.parse().map(Value::Int);
                number.map_err(|_| self.damaged("an integer is not a number of at most 64 bits"))
            }
        }
    }

    fn text(&mut self, width: usize) -> Result<Object<'a, L>, PickleError> {
        let text = std::str::from_utf8(self.string(width)?);
        text.map(Value::Text).map_err(|_| self.damaged("a string is not UTF-8"))
    }

    fn global(&self, module: &str, name: &str) -> Result<Object<'a, L>, PickleError> {
        let global = self.allowed.find_class(module, name);
        global.map(Value::Special).ok_or_else(|| PickleError::Global {
            offset: self.instruction,
            name: format!("{}.{}", printable(module), printable(name)),
            file: L::FILE,
            written_by: L::WRITTEN_BY,
        })
    }

    fn stack_global(&mut self) -> Result<Object<'a, L>, PickleError> {
        let pair = self.pop_many(2)?;
        match (self.objects.value(pair[0]), self.objects.value(pair[1])) {
            (&Value::Text(module), &Value::Text(name)) => self.global(module, name),
            _ => Err(self.damaged("the name of a global is not text")),
        }
    }

    /// "Calls" the second object on the stack with the tuple on top.
    fn reduce(&mut self) -> Result<Object<'a, L>, PickleError> {
        let pair = self.pop_many(2)?;
        let result = match (self.objects.value(pair[0]), self.objects.value(pair[1])) {
            (Value::Special(callable), Value::Tuple(arguments)) => {
                self.allowed.reduce(&self.objects, callable, arguments)
            }
            (_, Value::Tuple(_)) => Err("something is called that is not an allowed function"),
            _ => Err("the arguments of a call are not a tuple"),
        };
        result.map_err(|problem| self.damaged(problem))
    }

    fn new_object(&mut self) -> Result<Object<'a, L>, PickleError> {
        let pair = self.pop_many(2)?;
        let object = match (self.objects.value(pair[0]), self.objects.value(pair[1])) {
            (Value::Special(class), Value::Tuple(_)) => self.allowed.new_object(class),
            _ => None,
        };
        let problem = "an object is made of something that is not an allowed class";
        object.map(Value::Special).ok_or_else(|| self.damaged(problem))
    }

    /// Sets the attributes of an object. Those of a dictionary do not affect its items and are discarded
    /// (`state_dict()` adds version numbers to its ordered dictionary in this way, `_metadata`).
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let built = self.top()?;
        let object = match (self.objects.value(built), self.objects.value(state)) {
            (Value::Special(object), _) => self.allowed.build(&self.objects, object, state),
            (Value::Dict(_), Value::Dict(_)) => return Ok(()),
            _ => Err("BUILD is used on something that is not a dictionary"),
        };
        let object = object.map_err(|problem| self.damaged(problem))?;
        self.objects.0[built.0 as usize] = Value::Special(object);
        Ok(())
    }

    fn extend_list(&mut self, items: &[ObjectId]) -> Result<(), PickleError> {
        let list = self.top()?;
        match &mut self.objects.0[list.0 as usize] {
            Value::List(all) => {
                all.extend_from_slice(items);
                Ok(())
            }
            _ => Err(self.damaged("something is appended to an object that is not a list")),
        }
    }

    fn extend_dict(&mut self, items: &[ObjectId]) -> Result<(), PickleError> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.damaged("a key has no value"));
        };
        let dict = self.top()?;
        match &mut self.objects.0[dict.0 as usize] {
            Value::Special(object) if self.allowed.takes_items(object) => Ok(()),
            Value::Dict(all) => {
                all.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err(self.damaged("an item is set in an object that is not a dictionary")),
        }
    }

    fn push(&mut self, object: Object<'a, L>) -> Result<(), PickleError> {
        if self.objects.0.len() == L::MAX_OBJECTS {
            return Err(PickleError::TooManyObjects { limit: L::MAX_OBJECTS });
        }
        self.stack.push(ObjectId(self.objects.0.len() as u32));
        self.objects.0.push(object);
        Ok(())
    }

    /// Lowest stack height that instructions without a mark may reach.
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

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let bytes = self.take(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    /// An unsigned number of so many bytes, up to 8.
    fn number(&mut self, width: usize) -> Result<u64, PickleError> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width as u64)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// A number in the memo.
    fn slot(&mut self, is_long: bool) -> Result<u32, PickleError> {
        Ok(self.number(if is_long { 4 } else { 1 })? as u32)
    }

    /// Bytes behind their length, which has so many bytes.
    fn string(&mut self, width: usize) -> Result<&'a [u8], PickleError> {
        let length = self.number(width)?;
        self.take(length)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], PickleError> {
        let rest = &self.bytes[self.position..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or(PickleError::EndsEarly {
            offset: self.position,
            needed: length,
            left: rest.len(),
        })?;
        self.position += taken.len();
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

    fn refused(&self, code: u8) -> PickleError {
        PickleError::Opcode { offset: self.instruction, code, name: opcode_name(code), file: L::FILE }
    }
}

/// Instructions that only some kinds of files use; the others build plain values, or are refused for all.
fn is_rare(code: u8) -> bool {
    matches!(code, b'0' | b'B' | b'C' | b'I' | b'Q' | b'T' | b'U' | b'l' | 0x81 | 0x8d | 0x8e)
}
