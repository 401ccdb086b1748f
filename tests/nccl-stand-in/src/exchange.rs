//! Collectives as rounds over the board: post a chunk, wait for all ranks, read, mark as read.

use crate::board::{Board, CHUNK, wait};
use crate::comm::{INVALID_USAGE, REMOTE_ERROR, StandInComm};
use crate::fault::StandInFaultKind as Fault;
use crate::reduce::{ElementType, Op, reduce};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Time from the start of a call to the error of `late_error`.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(crate) enum ExchangeOperation {
    AllReduce(Op),
    AllGather,
    ReduceScatter(Op),
    Broadcast(usize),
}

/// A collective that is queued on a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExchangeCall {
    pub(crate) operation: ExchangeOperation,
    pub(crate) kind: ElementType,
    pub(crate) count: usize,
    pub(crate) send: *const u8,
    pub(crate) receive: *mut u8,
}

// SAFETY: the program does not use the buffers until the stream has completed the call.
unsafe impl Send for ExchangeCall {}

/// The communicator was aborted.
struct Aborted;

impl ExchangeCall {
    /// Runs the call on the thread of its stream.
    pub(crate) fn run(self, comm: &Arc<StandInComm>, fault: Option<Fault>, number: u64) {
        let begin = Instant::now();
        match fault {
            Some(Fault::Slow(time)) => std::thread::sleep(time),
            Some(Fault::Hang | Fault::AbortHang) => return block_until_aborted(comm),
            Some(Fault::AsyncError) => {
                comm.fail(REMOTE_ERROR, &format!("stand-in: injected failure at call {number}"));
                return block_until_aborted(comm);
            }
            _ => {}
        }
        if let Some(board) = comm.board.get() {
            let mut round = comm.rounds.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rounds = Rounds { comm, board, round: &mut round, signature: self.signature() };
            // An aborted call leaves its buffers undefined, like NCCL.
            let _ = self.exchange(&mut rounds);
        }
        if fault == Some(Fault::LateError) {
            let text = format!("stand-in: injected failure after call {number}");
            comm.in_background(move |comm| {
                wait(|| false, || comm.is_aborted() || begin.elapsed() > LATE);
                comm.fail(REMOTE_ERROR, &text);
            });
        }
    }

    /// Encodes the properties that must be the same on all ranks.
    fn signature(self) -> u64 {
        let (operation, detail) = match self.operation {
            ExchangeOperation::AllReduce(op) => (1, op as u64),
            ExchangeOperation::AllGather => (2, 0),
            ExchangeOperation::ReduceScatter(op) => (3, op as u64),
            ExchangeOperation::Broadcast(root) => (4, root as u64),
        };
        (self.count as u64) << 24 | detail << 12 | (self.kind as u64) << 4 | operation
    }

    fn exchange(self, rounds: &mut Rounds) -> Result<(), Aborted> {
        let (rank, size, width) = (rounds.comm.rank, rounds.comm.size, self.kind.size());
        let step = CHUNK / width;
        let parts = if matches!(self.operation, ExchangeOperation::ReduceScatter(_)) { size } else { 1 };
        for part in 0..parts {
            for start in (0..self.count).step_by(step) {
                let count = step.min(self.count - start);
                let posts = !matches!(self.operation, ExchangeOperation::Broadcast(root) if root != rank);
                // SAFETY: `start + count` is within the part, and the part within the buffer of the program.
                let source = unsafe { self.send.add((part * self.count + start) * width) };
                rounds.round(posts.then_some((source, count * width)), |slots| {
                    // SAFETY: as above; each slot holds a chunk and does not overlap with the program's buffers.
                    unsafe { self.receive_chunk(slots, rank, part, start, count) }
                })?;
            }
        }
        Ok(())
    }

    /// # Safety
    /// Each slot must hold `count` elements, and `start + count` must be within the count of the call.
    unsafe fn receive_chunk(self, slots: &[*const u8], rank: usize, part: usize, start: usize, count: usize) {
        let width = self.kind.size();
        // SAFETY: the target is inside the program's buffer, whose size the collective prescribes.
        unsafe {
            let target = self.receive.add(start * width);
            match self.operation {
                ExchangeOperation::AllReduce(op) => reduce(slots, target, count, self.kind, op),
                ExchangeOperation::ReduceScatter(op) if part == rank => {
                    reduce(slots, target, count, self.kind, op);
                }
                ExchangeOperation::ReduceScatter(_) => {}
                ExchangeOperation::Broadcast(root) => {
                    slots[root].copy_to_nonoverlapping(target, count * width);
                }
                ExchangeOperation::AllGather => {
                    for (other, slot) in slots.iter().enumerate() {
                        let target = target.add(other * self.count * width);
                        slot.copy_to_nonoverlapping(target, count * width);
                    }
                }
            }
        }
    }
}

/// Blocks until the communicator is aborted.
fn block_until_aborted(comm: &StandInComm) {
    wait(|| false, || comm.is_aborted());
}

struct Rounds<'a> {
    comm: &'a StandInComm,
    board: &'a Board,
    round: &'a mut u64,
    signature: u64,
}

impl Rounds<'_> {
    /// Posts `source` (a pointer and a size of at most a chunk), then passes the slots of all ranks to `read`.
    fn round(
        &mut self,
        source: Option<(*const u8, usize)>,
        read: impl FnOnce(&[*const u8]),
    ) -> Result<(), Aborted> {
        let (board, before) = (self.board, *self.round);
        self.wait(|| board.lines().all(|line| line.read.load(Ordering::Acquire) >= before))?;
        let now = before + 1;
        if let Some((from, bytes)) = source {
            // SAFETY: the slot holds a chunk, and no rank reads it, because all have read the previous round.
            unsafe { from.copy_to_nonoverlapping(board.data(self.comm.rank), bytes) };
        }
        let own = board.line(self.comm.rank);
        own.signature.store(self.signature, Ordering::Relaxed);
        own.posted.store(now, Ordering::Release);
        self.wait(|| board.lines().all(|line| line.posted.load(Ordering::Acquire) >= now))?;
        if board.lines().any(|line| line.signature.load(Ordering::Relaxed) != self.signature) {
            self.comm.fail(INVALID_USAGE, "stand-in: the ranks make different calls");
            block_until_aborted(self.comm);
            return Err(Aborted);
        }
        let slots: Vec<*const u8> = (0..self.comm.size).map(|rank| board.data(rank).cast_const()).collect();
        read(&slots);
        own.read.store(now, Ordering::Release);
        *self.round = now;
        Ok(())
    }

    fn wait(&self, done: impl Fn() -> bool) -> Result<(), Aborted> {
        if wait(done, || self.comm.is_aborted()) { Ok(()) } else { Err(Aborted) }
    }
}
