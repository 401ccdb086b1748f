//! Collectives as rounds over the board: post a chunk, wait for all, read, say so.

use crate::board::{Board, CHUNK, wait};
use crate::comm::{INVALID_USAGE, REMOTE_ERROR, StandInComm};
use crate::fault::StandInFaultKind as Fault;
use crate::reduce::{ElementType, Op, reduce};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long after its start a call is done that `late_error` is about.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(crate) enum ExchangeOperation {
    AllReduce(Op),
    AllGather,
    ReduceScatter(Op),
    Broadcast(usize),
}

/// A collective that waits in a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExchangeCall {
    pub(crate) operation: ExchangeOperation,
    pub(crate) kind: ElementType,
    pub(crate) count: usize,
    pub(crate) send: *const u8,
    pub(crate) receive: *mut u8,
}

// SAFETY: the program leaves the buffers alone until the stream has passed the call.
unsafe impl Send for ExchangeCall {}

/// The communicator was aborted.
struct Aborted;

impl ExchangeCall {
    /// Runs the call, in the thread of its stream.
    pub(crate) fn run(self, comm: &Arc<StandInComm>, fault: Option<Fault>, number: u64) {
        let begin = Instant::now();
        match fault {
            Some(Fault::Slow(time)) => std::thread::sleep(time),
            Some(Fault::Hang | Fault::AbortHang) => return never(comm),
            Some(Fault::AsyncError) => {
                comm.fail(REMOTE_ERROR, &format!("stand-in: told to fail at call {number}"));
                return never(comm);
            }
            _ => {}
        }
        if let Some(board) = comm.board.get() {
            let mut round = comm.rounds.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rounds = Rounds { comm, board, round: &mut round, signature: self.signature() };
            // An aborted call leaves its buffers in any state, as NCCL does.
            let _ = self.exchange(&mut rounds);
        }
        if fault == Some(Fault::LateError) {
            let text = format!("stand-in: told to fail after call {number}");
            comm.in_background(move |comm| {
                wait(|| false, || comm.is_aborted() || begin.elapsed() > LATE);
                comm.fail(REMOTE_ERROR, &text);
            });
        }
    }

    /// What has to be the same on all ranks, as one number.
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
                // SAFETY: `start + count` is within the part, and the part within the program's buffer.
                let source = unsafe { self.send.add((part * self.count + start) * width) };
                rounds.round(posts.then_some((source, count * width)), |slots| {
                    // SAFETY: as above; slots hold a chunk each, apart from the program's buffers.
                    unsafe { self.receive_chunk(slots, rank, part, start, count) }
                })?;
            }
        }
        Ok(())
    }

    /// # Safety
    /// `slots` hold `count` elements each, and `start + count` is within the call's count.
    unsafe fn receive_chunk(self, slots: &[*const u8], rank: usize, part: usize, start: usize, count: usize) {
        let width = self.kind.size();
        // SAFETY: inside the program's buffer, by the rules of the collective.
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

/// Stays until the communicator is aborted.
fn never(comm: &StandInComm) {
    wait(|| false, || comm.is_aborted());
}

struct Rounds<'a> {
    comm: &'a StandInComm,
    board: &'a Board,
    round: &'a mut u64,
    signature: u64,
}

impl Rounds<'_> {
    /// Posts `source` (an address and its bytes, at most a chunk), then lets `read` see all ranks' slots.
    fn round(
        &mut self,
        source: Option<(*const u8, usize)>,
        read: impl FnOnce(&[*const u8]),
    ) -> Result<(), Aborted> {
        let (board, before) = (self.board, *self.round);
        self.wait(|| board.lines().all(|line| line.read.load(Ordering::Acquire) >= before))?;
        let now = before + 1;
        if let Some((from, bytes)) = source {
            // SAFETY: the slot holds a chunk, and nobody reads it: all have read the round before.
            unsafe { from.copy_to_nonoverlapping(board.data(self.comm.rank), bytes) };
        }
        let own = board.line(self.comm.rank);
        own.signature.store(self.signature, Ordering::Relaxed);
        own.posted.store(now, Ordering::Release);
        self.wait(|| board.lines().all(|line| line.posted.load(Ordering::Acquire) >= now))?;
        if board.lines().any(|line| line.signature.load(Ordering::Relaxed) != self.signature) {
            self.comm.fail(INVALID_USAGE, "stand-in: ranks do not make the same call");
            never(self.comm);
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
