//! The NCCL library: search, version and unique ids.

use crate::error::Error;
use crate::ffi::{self, NCCL_SUCCESS, Nccl};
use crate::search::{self, LibraryRequest, SearchEnvironment};
use crate::values::{UniqueId, Version};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::Arc;

/// The first version whose communicators can be created without blocking, and aborted during their creation.
const OLDEST: Version = Version { major: 2, minor: 14, patch: 0 };

const NCCL: LibraryRequest = LibraryRequest {
    library: "NCCL",
    variable: "NCCL_RS_LIBRARY",
    names: &["libnccl.so.2", "libnccl.so"],
    wheels: &["nccl", "cu13", "cu12"],
    remedy: "install NCCL (its package, or the wheel nvidia-nccl-cu13 or -cu12)",
};

/// The loaded NCCL library. Clones share it; it is never unloaded.
#[derive(Clone)]
pub struct Library(pub(crate) Arc<Nccl>);

impl Library {
    /// Finds and loads NCCL.
    ///
    /// If `NCCL_RS_LIBRARY` is set, only that file is tried. Otherwise the search order is: libraries that are already
    /// loaded or known to the loader, wheels beside libtorch or in `VIRTUAL_ENV`, the folders in `NCCL_HOME`,
    /// `CUDA_HOME` and similar variables, the folder of the program, and the usual system folders.
    pub fn open() -> Result<Self, Error> {
        let nccl = Nccl::load(search::open(NCCL, &SearchEnvironment::present())?)?;
        let library = Self(Arc::new(nccl));
        let version = library.version()?;
        if version >= OLDEST {
            return Ok(library);
        }
        let (file, found) = (library.path().display().to_string(), version.to_string());
        Err(Error::TooOld { library: file, found, needed: "2.14", purpose: None })
    }

    /// The path of the library, or the name under which the loader found it.
    pub fn path(&self) -> &Path {
        &self.0.opened.path
    }

    /// NCCL's version.
    pub fn version(&self) -> Result<Version, Error> {
        let mut code: c_int = 0;
        // SAFETY: the call writes one integer.
        let answer = unsafe { (self.0.version)(&raw mut code) };
        self.0.check("ncclGetVersion", answer)?;
        Ok(Version::from_code(code))
    }

    /// Creates the id of a new communicator. One rank calls it and sends the bytes to the others.
    pub fn unique_id(&self) -> Result<UniqueId, Error> {
        let mut id = ffi::RawUniqueId([0; UniqueId::BYTES]);
        // SAFETY: the call writes a value of this type.
        let answer = unsafe { (self.0.unique_id)(&raw mut id) };
        self.0.check("ncclGetUniqueId", answer)?;
        Ok(UniqueId::from_bytes(id.0))
    }

    /// Whether the library exports `symbol`, e.g. to detect substitutes and optional functions.
    pub fn has_symbol(&self, symbol: &str) -> bool {
        self.0.opened.symbol::<*const c_void>(symbol).is_some()
    }

    /// `ncclCommSplit`, which exists since 2.18.
    pub(crate) fn split(&self) -> Result<ffi::CommSplit, Error> {
        self.0.opened.symbol("ncclCommSplit").ok_or_else(|| Error::TooOld {
            library: self.path().display().to_string(),
            found: self.version().map_or_else(|error| error.to_string(), |version| version.to_string()),
            needed: "2.18",
            purpose: Some("split"),
        })
    }
}

impl Nccl {
    /// An error unless `code` is success.
    pub(crate) fn check(&self, call: &'static str, code: c_int) -> Result<(), Error> {
        if code == NCCL_SUCCESS { Ok(()) } else { Err(self.error(call, code, std::ptr::null_mut())) }
    }

    /// The error for a code, with NCCL's text and the last error of `comm` (which may be null).
    pub(crate) fn error(&self, call: &'static str, code: c_int, comm: ffi::RawComm) -> Error {
        // SAFETY: both calls return null or a text that stays valid.
        let (text, last) =
            unsafe { (read_text((self.error_string)(code)), read_text((self.last_error)(comm))) };
        let last = last.trim();
        let message = if last.is_empty() { text } else { format!("{text}: {last}") };
        Error::Nccl { call, code, message }
    }
}

/// Copies a C string; null becomes an empty string.
///
/// # Safety
/// `text` must be null or point to a null-terminated string.
pub(crate) unsafe fn read_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: guaranteed by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
