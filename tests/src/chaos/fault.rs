//! Faults, and how they are drawn.

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
    /// `kill -9` of the launcher of the ranks: `mpirun` or `lift`.
    KillLauncher,
    /// `kill -9` of all processes.
    KillAll,
    /// One rank is stopped permanently.
    Freeze(u64),
    /// One rank is stopped for this time; the run must continue.
    Pause(u64, Duration),
    /// The disk is full; it has space again after this time, or when the run has ended.
    FullDisk(Option<Duration>),
    /// All processes are killed, then a number of the newest checkpoints is damaged: kind, seed, number.
    Damage(DamageKind, u64, u64),
    /// An image, selected by this number, is missing.
    LostFile(u64),
    /// A burst of signals that request a stop.
    Signals(Burst),
    /// A call during checkpoint writing kills the process or fails; the text is the value of `LIFT_FAULT`.
    Call(String),
}

/// The kind of damage to a file of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A bit is flipped.
    Flip,
    /// Part of a page contains zeros.
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
    /// The recipients.
    pub to: To,
}

/// Recipients of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// One rank.
    Rank(u64),
    /// All ranks.
    Ranks,
    /// `mpirun` or `lift`, which forward them.
    Launcher,
}

/// The category of a fault in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChaosFaultKind {
    /// `kill -9` of one rank.
    KillRank,
    /// `kill -9` of `mpirun`.
    KillMpirun,
    /// `kill -9` of `lift`.
    KillLift,
    /// `kill -9` of all processes.
    KillAll,
    /// A rank is stopped permanently.
    Freeze,
    /// A rank is stopped temporarily.
    Pause,
    /// The disk is full.
    FullDisk,
    /// Checkpoints are damaged.
    Damage,
    /// An image is missing.
    LostFile,
    /// Signals that request a stop.
    Signals,
    /// A call during checkpoint writing kills the process or fails.
    Call,
}

impl ChaosFaultKind {
    /// All kinds, in the order of the report.
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

    /// Name in a report.
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

    /// Maximum time until the remaining ranks detect the fault and end, on a busy machine; `None` if they need not
    /// detect it.
    pub const fn limit(self) -> Option<Duration> {
        match self {
            Self::KillRank | Self::KillMpirun | Self::KillLift | Self::KillAll => {
                Some(Duration::from_secs(10))
            }
            Self::Freeze => Some(Duration::from_secs(SHORT_TIMEOUT + 10)),
            _ => None,
        }
    }
}

/// `distributed.timeout_seconds` of starts in which a rank will be stopped.
pub const SHORT_TIMEOUT: u64 = 5;

/// The kinds of faults that this machine supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedFaults {
    /// File systems can be mounted.
    pub mounts: bool,
    /// A trainer with the feature `faults` exists.
    pub calls: bool,
}

impl SupportedFaults {
    /// The unsupported kinds.
    pub fn unsupported(self) -> Vec<ChaosFaultKind> {
        let kinds = [(self.mounts, ChaosFaultKind::FullDisk), (self.calls, ChaosFaultKind::Call)];
        kinds.into_iter().filter(|(possible, _)| !possible).map(|(_, kind)| kind).collect()
    }
}

impl ChaosFault {
    /// Draws a fault and its moment.
    pub fn draw(draw: &mut Draw, supported: SupportedFaults) -> (Self, FaultMoment) {
        let kinds = [
            (20, 0),
            (12, 1),
            (12, 2),
            (4, 3),
            (8, 4),
            (if supported.mounts { 9 } else { 0 }, 5),
            (14, 6),
            (8, 7),
            (12, 8),
            (if supported.calls { 12 } else { 0 }, 9),
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
                let kind =
                    draw.one_of(&[DamageKind::Flip, DamageKind::Torn, DamageKind::Cut, DamageKind::Missing]);
                let many = if draw.chance(15) { u64::MAX } else { draw.within(1, 2) };
                let at = FaultMoment::Training(draw.within(4, 6), draw.milliseconds(60));
                (Self::Damage(kind, draw.below(u64::MAX), many), at)
            }
            7 => (Self::LostFile(draw.below(1 << 32)), if draw.chance(60) { training } else { at }),
            8 => (Self::Signals(Burst::draw(draw)), at),
            _ => (Self::Call(call(draw)), FaultMoment::StartUp(Duration::ZERO)),
        }
    }

    /// Its category, for ranks that this launcher has started.
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

/// Draws a value for `LIFT_FAULT`. A checkpoint makes about twenty calls.
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
