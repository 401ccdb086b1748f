//! Wrappers of MPI's C interface: one function per call, with its return code checked.

use crate::activity::{Activity, OperationGuard};
use crate::error::CollectiveError;
use crate::reduce_op::ReduceOp;
use mpi::ffi;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn collectives_mpi_in_place() -> *mut c_void;
    fn collectives_mpi_errors_return(comm: ffi::MPI_Comm) -> c_int;
}

/// Largest number of elements per MPI call: counts are 32-bit.
const MAX_COUNT: usize = 1 << 30;

/// Polling interval for a barrier with a timeout.
const BARRIER_POLL: Duration = Duration::from_micros(100);

/// Supported element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F64,
    I64,
    U8,
    /// Can be sent over MPI but not reduced, because MPI has no such type.
    BF16,
}

impl Element {
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
            Self::BF16 => 2,
            Self::U8 => 1,
        }
    }

    fn datatype(self) -> ffi::MPI_Datatype {
        // SAFETY: reads a constant handle that MPI's library defines.
        unsafe {
            match self {
                Self::F32 => ffi::RSMPI_FLOAT,
                Self::F64 => ffi::RSMPI_DOUBLE,
                Self::I64 => ffi::RSMPI_INT64_T,
                Self::U8 => ffi::RSMPI_UINT8_T,
                Self::BF16 => ffi::RSMPI_UINT16_T,
            }
        }
    }
}

// SAFETY: MPI is initialised for calls from several threads, and each communicator is used by one thread only.
unsafe impl Send for MpiComm {}

/// A communicator and the rank of this process in it. MPI returns errors as codes.
#[derive(Clone)]
pub(crate) struct MpiComm {
    handle: ffi::MPI_Comm,
    pub(crate) rank: usize,
    pub(crate) size: usize,
    /// Rank of this process in the world, for messages.
    pub(crate) world_rank: usize,
    activity: Activity,
    /// The activity that the liveness thread monitors; it contains the step.
    watched: Activity,
}

impl MpiComm {
    /// Wraps a live communicator and sets its error handler to return codes instead of aborting the process.
    pub(crate) fn new(
        handle: ffi::MPI_Comm,
        (rank, size): (usize, usize),
        activity: Activity,
    ) -> Result<Self, CollectiveError> {
        let watched = activity.clone();
        Self { handle, rank, size, world_rank: rank, activity, watched }.returning_errors()
    }

    fn returning_errors(self) -> Result<Self, CollectiveError> {
        // SAFETY: `handle` is a live communicator of an initialised MPI.
        let code = unsafe { collectives_mpi_errors_return(self.handle) };
        self.check("set_errhandler", code)?;
        Ok(self)
    }

    /// The activity in which calls are recorded.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The same communicator for another thread than the monitored one.
    pub(crate) fn unmonitored(self) -> Self {
        Self { activity: Activity::default(), ..self }
    }

    fn check(&self, operation: &'static str, code: c_int) -> Result<(), CollectiveError> {
        if code == 0 {
            return Ok(());
        }
        let step = self.watched.now().0.step;
        Err(CollectiveError::Mpi { rank: self.world_rank, operation, step, message: explained(code) })
    }

    fn enter(&self, operation: &'static str) -> OperationGuard {
        self.activity.enter_collective(operation)
    }

    /// All-reduces `count` elements at `data` in place.
    ///
    /// # Safety
    /// `data` points to `count` writable elements, and nothing else uses them meanwhile.
    pub(crate) unsafe fn all_reduce(
        &self,
        data: *mut u8,
        count: usize,
        element: Element,
        op: ReduceOp,
    ) -> Result<(), CollectiveError> {
        let _entered = self.enter("all_reduce");
        for (start, length) in chunks(count) {
            // SAFETY: the caller's range holds `count` elements, and the chunk lies inside it.
            let code = unsafe {
                let operation = match op {
                    ReduceOp::Sum => ffi::RSMPI_SUM,
                    ReduceOp::Max => ffi::RSMPI_MAX,
                    ReduceOp::Min => ffi::RSMPI_MIN,
                };
                let chunk = data.add(start * element.size()).cast::<c_void>();
                let datatype = element.datatype();
                ffi::MPI_Allreduce(
                    collectives_mpi_in_place(),
                    chunk,
                    length,
                    datatype,
                    operation,
                    self.handle,
                )
            };
            self.check("all_reduce", code)?;
        }
        Ok(())
    }

    /// Broadcasts `count` elements at `data` from rank `root`.
    ///
    /// # Safety
    /// `data` points to `count` writable elements, and nothing else uses them meanwhile.
    pub(crate) unsafe fn broadcast(
        &self,
        data: *mut u8,
        count: usize,
        element: Element,
        root: usize,
    ) -> Result<(), CollectiveError> {
        let _entered = self.enter("broadcast");
        for (start, length) in chunks(count) {
            // SAFETY: the caller's range holds `count` elements, and the chunk lies inside it.
            let code = unsafe {
                let chunk = data.add(start * element.size()).cast::<c_void>();
                ffi::MPI_Bcast(chunk, length, element.datatype(), root as c_int, self.handle)
            };
            self.check("broadcast", code)?;
        }
        Ok(())
    }

    /// All-gathers `count` elements of every rank into `output`, in rank order.
    ///
    /// # Safety
    /// `input` points to `count` elements, `output` to `count * size` writable ones that do not overlap with them.
    pub(crate) unsafe fn all_gather(
        &self,
        input: *const u8,
        output: *mut u8,
        count: usize,
        element: Element,
    ) -> Result<(), CollectiveError> {
        let _entered = self.enter("all_gather");
        let length = self.single_count("all_gather", count)?;
        if count == 0 {
            // The count is the same on all ranks. Empty vectors share an address, which MPI reports as an error.
            return Ok(());
        }
        // SAFETY: the caller's ranges have the sizes that the call reads and writes.
        let code = unsafe {
            ffi::MPI_Allgather(
                input.cast(),
                length,
                element.datatype(),
                output.cast(),
                length,
                element.datatype(),
                self.handle,
            )
        };
        self.check("all_gather", code)
    }

    /// All-gathers `input` of every rank; lengths may differ.
    pub(crate) fn all_gather_bytes(&self, input: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let mut lengths = vec![0i64; self.size];
        let own = input.len() as i64;
        // SAFETY: `own` is one element and `lengths` holds one for each rank.
        unsafe {
            let (from, to) = ((&raw const own).cast(), lengths.as_mut_ptr().cast());
            self.all_gather(from, to, 1, Element::I64)?;
        }
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        let mut padded = input.to_vec();
        padded.resize(longest, 0);
        let mut all = vec![0u8; longest * self.size];
        // SAFETY: `padded` has `longest` bytes and `all` as many for each rank.
        unsafe { self.all_gather(padded.as_ptr(), all.as_mut_ptr(), longest, Element::U8)? };
        let texts = lengths.iter().enumerate();
        Ok(texts.map(|(rank, &length)| all[rank * longest..][..length as usize].to_vec()).collect())
    }

    /// Reduce-scatters the sum: each rank receives the part of its rank.
    ///
    /// # Safety
    /// `input` points to `count * size` elements, `output` to `count` writable ones that do not overlap with them.
    pub(crate) unsafe fn reduce_scatter(
        &self,
        input: *const u8,
        output: *mut u8,
        count: usize,
        element: Element,
    ) -> Result<(), CollectiveError> {
        let _entered = self.enter("reduce_scatter");
        let length = self.single_count("reduce_scatter", count)?;
        // SAFETY: the caller's ranges have the sizes that the call reads and writes.
        let code = unsafe {
            let sum = ffi::RSMPI_SUM;
            let datatype = element.datatype();
            ffi::MPI_Reduce_scatter_block(input.cast(), output.cast(), length, datatype, sum, self.handle)
        };
        self.check("reduce_scatter", code)
    }

    pub(crate) fn barrier(&self) -> Result<(), CollectiveError> {
        let _entered = self.enter("barrier");
        // SAFETY: the communicator is alive.
        let code = unsafe { ffi::MPI_Barrier(self.handle) };
        self.check("barrier", code)
    }

    /// Waits until every rank has called it, or returns an error after `timeout`. After an error the communicator is
    /// unusable, because its barrier is still pending.
    pub(crate) fn barrier_within(&self, timeout: Duration) -> Result<(), CollectiveError> {
        let _entered = self.enter("barrier");
        let begin = Instant::now();
        let mut request = MaybeUninit::<ffi::MPI_Request>::uninit();
        // SAFETY: the communicator is alive; the call writes one request.
        let code = unsafe { ffi::MPI_Ibarrier(self.handle, request.as_mut_ptr()) };
        self.check("barrier", code)?;
        loop {
            let (mut done, mut status): (c_int, _) = (0, MaybeUninit::<ffi::MPI_Status>::uninit());
            // SAFETY: the request was started above and is not done yet; the status is only written.
            let code = unsafe { ffi::MPI_Test(request.as_mut_ptr(), &raw mut done, status.as_mut_ptr()) };
            self.check("barrier", code)?;
            if done != 0 {
                return Ok(());
            }
            if begin.elapsed() > timeout {
                let (rank, step) = (self.world_rank, self.activity.now().0.step);
                return Err(CollectiveError::TimedOut { rank, operation: "barrier", step, timeout });
            }
            std::thread::sleep(BARRIER_POLL);
        }
    }

    /// Splits the communicator: ranks with the same `color` form a new one, ordered by `key`.
    ///
    /// The new communicator lives until MPI ends: freeing it is a collective call, which a rank that exits early after
    /// an error would not make.
    pub(crate) fn split(&self, color: usize, key: usize) -> Result<Self, CollectiveError> {
        let _entered = self.enter("split");
        let small = |what, value: usize| {
            c_int::try_from(value).map_err(|_| CollectiveError::Tensor {
                rank: self.world_rank,
                operation: "split",
                expected: format!("a {what} of at most {}", c_int::MAX),
                found: value.to_string(),
            })
        };
        let (color, key) = (small("color", color)?, small("key", key)?);
        let mut handle = MaybeUninit::<ffi::MPI_Comm>::uninit();
        let (mut rank, mut size): (c_int, c_int) = (0, 0);
        // SAFETY: the communicator is alive; each call writes one value, and the handle is read only after
        // the call that writes it has succeeded.
        let handle = unsafe {
            self.check("split", ffi::MPI_Comm_split(self.handle, color, key, handle.as_mut_ptr()))?;
            let handle = handle.assume_init();
            self.check("split", ffi::MPI_Comm_rank(handle, &raw mut rank))?;
            self.check("split", ffi::MPI_Comm_size(handle, &raw mut size))?;
            handle
        };
        let (rank, size, world_rank) = (rank as usize, size as usize, self.world_rank);
        Self {
            handle,
            rank,
            size,
            world_rank,
            activity: self.activity.clone(),
            watched: self.watched.clone(),
        }
        .returning_errors()
    }

    /// Aborts all ranks of the world with `code`. Does not return.
    pub(crate) fn abort(&self, code: i32) -> ! {
        // SAFETY: MPI is initialised; the call ends the process.
        unsafe { ffi::MPI_Abort(self.handle, code) };
        std::process::abort()
    }

    fn single_count(&self, operation: &'static str, count: usize) -> Result<c_int, CollectiveError> {
        if count <= MAX_COUNT {
            return Ok(count as c_int);
        }
        let (expected, found) =
            (format!("at most {MAX_COUNT} elements a rank"), format!("{count}; cut the tensor into parts"));
        Err(CollectiveError::Tensor { rank: self.world_rank, operation, expected, found })
    }
}

fn chunks(count: usize) -> impl Iterator<Item = (usize, c_int)> {
    (0..count).step_by(MAX_COUNT).map(move |start| (start, (count - start).min(MAX_COUNT) as c_int))
}

/// MPI's error text. For a truncated message, which is only a symptom, the usual cause is added.
fn explained(code: c_int) -> String {
    let (text, mut class) = (error_text(code), 0);
    // SAFETY: writes one integer, owned here.
    let answer = unsafe { ffi::MPI_Error_class(code, &raw mut class) };
    if answer == 0 && class == ffi::MPI_ERR_TRUNCATE as c_int {
        return format!("{text}; another rank makes a different call, or skips one");
    }
    text
}

fn error_text(code: c_int) -> String {
    let mut text = vec![0u8; 4096];
    let mut length: c_int = 0;
    // SAFETY: the buffer is longer than MPI_MAX_ERROR_STRING of every implementation.
    let answer = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &raw mut length) };
    if answer != 0 {
        return format!("code {code}");
    }
    text.truncate(length as usize);
    String::from_utf8_lossy(&text).into_owned()
}
