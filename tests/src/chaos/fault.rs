//! What can go wrong, and how it is drawn.

use super::job::Launcher;
use super::moment::FaultMoment;
use crate::draw::Draw;
use nix::sys::signal::Signal;
use std::time::Duration;

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChaosFault {
    /// `kill -9` of one rank.
    KillRank(u64),
    /// `kill -9` of what started the ranks: `mpirun`, or `lift`.
    KillLauncher,
    /// `kill -9` of everything.
    KillAll,
    /// One rank is stopped for good.
    Freeze(u64),
    /// One rank is stopped for so long; the run must go on.
    Pause(u64, Duration),
    /// The disk is full; it has room again after so long, or when the run has ended.
    FullDisk(Option<Duration>),
    /// Everything is killed, and then the newest checkpoints, so many of them, are damaged.
    Damage(Injury, u64, u64),
    /// An image is gone; the number says which.
    LostFile(u64),
    /// Signals that ask to stop, many times.
    Signals(Burst),
    /// A call of checkpoint writing kills the process or fails, as `LIFT_FAULT` says.
    Call(String),
}

/// Damage to a file of a checkpoint, whose place a number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injury {
    /// A bit is flipped.
    Flip,
    /// A piece of a page reads as zeros.
    Torn,
    /// The end is missing.
    Cut,
    /// A file is missing.
    Missing,
}

/// Signals in a burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst {
    /// The signals, in order.
    pub signals: Vec<Signal>,
    /// To whom.
    pub to: To,
}

/// Who gets signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// One rank.
    Rank(u64),
    /// All ranks.
    Ranks,
    /// `mpirun` or `lift`, which pass them on.
    Launcher,
}

/// What a fault is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChaosFaultKind {
    /// `kill -9` of one rank.
    KillRank,
    /// `kill -9` of `mpirun`.
    KillMpirun,
    /// `kill -9` of `lift`.
    KillLift,
    /// `kill -9` of everything.
    KillAll,
    /// A rank is stopped for good.
    Freeze,
    /// A rank is stopped for a while.
    Pause,
    /// The disk is full.
    FullDisk,
    /// Checkpoints are damaged.
    Damage,
    /// An image is gone.
    LostFile,
    /// Signals that ask to stop.
    Signals,
    /// A call of checkpoint writing kills or fails.
    Call,
}

impl ChaosFaultKind {
    /// All, in the order of the report.
    pub const ALL: [Self; 11] = [
        Self::KillRank,
        Self::KillMpirun,
        Self::KillLift,
        Self::KillAll,
        Self::Freeze,
        Self::Pause,
        Self::FullDisk,
        Self::Damage,
        Self::LostFile,
        Self::Signals,
        Self::Call,
    ];

    /// Its name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillRank => "kill one rank",
            Self::KillMpirun => "kill mpirun",
            Self::KillLift => "kill lift",
            Self::KillAll => "kill all",
            Self::Freeze => "freeze a rank",
            Self::Pause => "pause a rank",
            Self::FullDisk => "full disk",
            Self::Damage => "damaged checkpoint",
            Self::LostFile => "lost image",
            Self::Signals => "signals",
            Self::Call => "checkpoint call",
        }
    }

    /// How long the ranks that are left may take to notice it and end, on a machine that is busy with others; nothing
    /// for what they need not notice.
    pub const fn limit(self) -> Option<Duration> {
        match self {
            Self::KillRank | Self::KillMpirun | Self::KillLift | Self::KillAll => {
                Some(Duration::from_secs(10))
            }
            Self::Freeze => Some(Duration::from_secs(HURRIED + 10)),
            _ => None,
        }
    }
}

/// Seconds of silence after which a stopped rank counts as gone, in starts where one will be.
pub const HURRIED: u64 = 5;

/// What is possible here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// File systems can be mounted.
    pub mounts: bool,
    /// There is a trainer with the feature `faults`.
    pub calls: bool,
}

impl Means {
    /// What cannot be played.
    pub fn left_out(self) -> Vec<ChaosFaultKind> {
        let kinds = [(self.mounts, ChaosFaultKind::FullDisk), (self.calls, ChaosFaultKind::Call)];
        kinds.into_iter().filter(|(possible, _)| !possible).map(|(_, kind)| kind).collect()
    }
}

impl ChaosFault {
    /// Any fault, and when.
    pub fn draw(draw: &mut Draw, means: Means) -> (Self, FaultMoment) {
        let kinds = [
            (20, 0),
            (12, 1),
            (12, 2),
            (4, 3),
            (8, 4),
            (if means.mounts { 9 } else { 0 }, 5),
            (14, 6),
            (8, 7),
            (12, 8),
            (if means.calls { 12 } else { 0 }, 9),
        ];
        let kind = draw.weighted(&kinds);
        let at = FaultMoment::draw(draw);
        let training = FaultMoment::training(draw);
        match kind {
            0 => (Self::KillRank(draw.below(12)), at),
            1 => (Self::KillLauncher, at),
            2 => (Self::KillAll, at),
            3 => (Self::Freeze(draw.below(12)), training),
            4 => (Self::Pause(draw.below(12), Duration::from_millis(draw.within(50, 900))), training),
            5 => {
                let free = draw.chance(50).then(|| draw.milliseconds(600));
                (Self::FullDisk(free), at)
            }
            6 => {
                let injury = draw.one_of(&[Injury::Flip, Injury::Torn, Injury::Cut, Injury::Missing]);
                let many = if draw.chance(15) { u64::MAX } else { draw.within(1, 2) };
                let at = FaultMoment::Training(draw.within(4, 6), draw.milliseconds(60));
                (Self::Damage(injury, draw.below(u64::MAX), many), at)
            }
            7 => (Self::LostFile(draw.below(1 << 32)), if draw.chance(60) { training } else { at }),
            8 => (Self::Signals(Burst::draw(draw)), at),
            _ => (Self::Call(call(draw)), FaultMoment::StartUp(Duration::ZERO)),
        }
    }

    /// What it is counted as, on ranks that were started in this way.
    pub const fn kind(&self, launcher: Launcher) -> ChaosFaultKind {
        match (self, launcher) {
            (Self::KillRank(_), _) => ChaosFaultKind::KillRank,
            (Self::KillLauncher, Launcher::Lift) => ChaosFaultKind::KillLift,
            (Self::KillLauncher, _) => ChaosFaultKind::KillMpirun,
            (Self::KillAll, _) => ChaosFaultKind::KillAll,
            (Self::Freeze(_), _) => ChaosFaultKind::Freeze,
            (Self::Pause(..), _) => ChaosFaultKind::Pause,
            (Self::FullDisk(_), _) => ChaosFaultKind::FullDisk,
            (Self::Damage(..), _) => ChaosFaultKind::Damage,
            (Self::LostFile(_), _) => ChaosFaultKind::LostFile,
            (Self::Signals(_), _) => ChaosFaultKind::Signals,
            (Self::Call(_), _) => ChaosFaultKind::Call,
        }
    }
}

impl Burst {
    fn draw(draw: &mut Draw) -> Self {
        let count = draw.within(1, 20);
        let any = [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
        let signals = (0..count).map(|_| draw.one_of(&any)).collect();
        let to = match draw.below(3) {
            0 => To::Rank(draw.below(12)),
            1 => To::Ranks,
            _ => To::Launcher,
        };
        Self { signals, to }
    }
}

/// A fault for `LIFT_FAULT`. A checkpoint takes some twenty calls.
fn call(draw: &mut Draw) -> String {
    let name = draw.one_of(&["mkdir", "create", "write", "fsync", "rename", "list", "unlink"]);
    match draw.below(6) {
        0 | 1 => format!("kill-before:{}", draw.within(1, 90)),
        2 => format!("kill-after:{}", draw.within(1, 90)),
        3 => format!("kill-before:{name}@{}", draw.within(1, 6)),
        4 => format!("tear:{}", draw.within(1, 25)),
        _ => {
            let error = draw.one_of(&["EIO", "ENOSPC", "ESTALE", "EACCES"]);
            format!("fail:{name}@{}:{error}:{}", draw.within(2, 6), draw.within(1, 2))
        }
    }
}
