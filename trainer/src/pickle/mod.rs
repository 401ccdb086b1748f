//! Python's pickle format, read as data.
//!
//! A pickle is a program for a small stack machine that may call any Python function. This machine supports the
//! instructions that build plain values. The reader of a kind of file provides an [`AllowList`] with the globals that
//! the file may name and their meaning, like a restricted `Unpickler` in Python. Everything else is refused
//! explicitly, and nothing is ever called. Objects are stored in one flat arena and refer to each other by index:
//! memory grows only with the length of the program, and nothing recurses, even for deep or circular objects.
//!
//! Source of the format: the Python library's `pickletools` documentation (protocols 2 to 5).

mod error;
mod machine;

pub use self::error::PickleError;
pub(crate) use self::error::printable;
use self::machine::Machine;

/// Index of an object in its [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId(u32);

/// One object. Text and bytes borrow from the pickle.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a, S> {
    /// `None`.
    None,
    /// `True`, `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(&'a str),
    /// Bytes, or a string of Python 2.
    Bytes(&'a [u8]),
    /// A tuple.
    Tuple(Vec<ObjectId>),
    /// A list.
    List(Vec<ObjectId>),
    /// A dictionary, in the order of writing.
    Dict(Vec<(ObjectId, ObjectId)>),
    /// Values of the [`AllowList`]: globals, and objects that are built from them.
    Special(S),
}

/// All objects of a pickle, by [`ObjectId`].
#[derive(Debug)]
pub struct Objects<'a, S>(Vec<Value<'a, S>>);

impl<'a, S> Objects<'a, S> {
    /// The object of an id of the same pickle.
    pub fn value(&self, id: ObjectId) -> &Value<'a, S> {
        &self.0[id.0 as usize]
    }

    /// Every object, in the order of making.
    pub fn iter(&self) -> impl Iterator<Item = &Value<'a, S>> {
        self.0.iter()
    }
}

/// The objects beyond plain data that the pickles of one kind of file may contain. A problem is reported as a phrase
/// after "the pickle is damaged at byte N: ".
pub trait AllowList<'a> {
    /// An object that is no plain data.
    type Special;
    /// The kind of file, for messages.
    const FILE: &'static str;
    /// Which files hold nothing else, for messages.
    const WRITTEN_BY: &'static str;
    /// Longest program read.
    const MAX_BYTES: usize;
    /// Most objects a program may make.
    const MAX_OBJECTS: usize;

    /// Whether such files use an instruction that not all kinds of files have.
    fn allows_opcode(&self, code: u8) -> bool;

    /// The meaning of a global, if it is allowed.
    fn find_class(&self, module: &str, name: &str) -> Option<Self::Special>;

    /// REDUCE: the result of calling an object.
    fn reduce(
        &self,
        objects: &Objects<'a, Self::Special>,
        callable: &Self::Special,
        arguments: &[ObjectId],
    ) -> Result<Value<'a, Self::Special>, &'static str>;

    /// NEWOBJ: an object of a class before it gets its attributes, if the class is allowed.
    fn new_object(&self, _class: &Self::Special) -> Option<Self::Special> {
        None
    }

    /// BUILD: the object with its attributes.
    fn build(
        &self,
        objects: &Objects<'a, Self::Special>,
        object: &Self::Special,
        state: ObjectId,
    ) -> Result<Self::Special, &'static str>;

    /// Whether items may be set in the object. They are discarded.
    fn takes_items(&self, _object: &Self::Special) -> bool {
        false
    }

    /// BINPERSID: the object outside the pickle with this id.
    fn persistent_load(
        &self,
        _objects: &Objects<'a, Self::Special>,
        _id: ObjectId,
    ) -> Result<Value<'a, Self::Special>, &'static str> {
        Err("an object lies outside the pickle")
    }
}

/// A parsed pickle.
#[derive(Debug)]
pub struct Pickle<'a, S> {
    objects: Objects<'a, S>,
    root: ObjectId,
}

impl<'a, S> Pickle<'a, S> {
    /// Reads a program that must end with the bytes.
    pub fn parse<L: AllowList<'a, Special = S>>(bytes: &'a [u8], allowed: L) -> Result<Self, PickleError> {
        if bytes.len() > L::MAX_BYTES {
            return Err(PickleError::TooLong { found: bytes.len(), limit: L::MAX_BYTES });
        }
        match Self::parse_first(bytes, allowed)? {
            (pickle, length) if length == bytes.len() => Ok(pickle),
            (_, offset) => {
                Err(PickleError::Damaged { offset, problem: "bytes follow the end of the program" })
            }
        }
    }

    /// Reads the program that `bytes` begin with; returns it with its length.
    pub fn parse_first<L: AllowList<'a, Special = S>>(
        bytes: &'a [u8],
        allowed: L,
    ) -> Result<(Self, usize), PickleError> {
        let (objects, root, length) = Machine::new(&bytes[..bytes.len().min(L::MAX_BYTES)], allowed).run()?;
        Ok((Self { objects, root }, length))
    }

    /// The object that the program returns.
    pub fn root(&self) -> ObjectId {
        self.root
    }

    /// The object of an id of this pickle.
    pub fn value(&self, id: ObjectId) -> &Value<'a, S> {
        self.objects.value(id)
    }

    /// All objects.
    pub fn objects(&self) -> &Objects<'a, S> {
        &self.objects
    }
}
