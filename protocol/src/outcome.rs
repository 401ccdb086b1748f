//! How a run ends, and the exit code for it.

use crate::Phase;
use serde::{Deserialize, Serialize};

/// How a run ended. The whole table of exit codes is in [`Outcome::exit_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The command has done its task.
    Done,
    /// Wrong input or configuration, found before training; a restart does not help.
    WrongInput,
    /// Stopped on request of the scheduler: resume it.
    Preempted,
    /// Stopped by the user at the terminal: do not resume it automatically.
    Interrupted,
    /// Failed; the message names rank, step and operation.
    Failed,
}

impl Outcome {
    /// Exit code of [`Outcome::Done`].
    pub const DONE: u8 = 0;
    /// Exit code of [`Outcome::Failed`]; any other code that is not in this table means the same.
    pub const FAILED: u8 = 1;
    /// Exit code of [`Outcome::WrongInput`].
    pub const WRONG_INPUT: u8 = 2;
    /// Exit code of [`Outcome::Preempted`] (`EX_TEMPFAIL` of `sysexits.h`).
    pub const PREEMPTED: u8 = 75;
    /// Exit code of [`Outcome::Interrupted`] (128 + SIGINT, as shells report it).
    pub const INTERRUPTED: u8 = 130;

    /// The exit code for this outcome.
    ///
    /// | code | outcome |
    /// | --- | --- |
    /// | 0 | done |
    /// | 1 | failed |
    /// | 2 | wrong input or configuration, found before training |
    /// | 75 | stopped on request, resume me |
    /// | 130 | interrupted by the person |
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Done => Self::DONE,
            Self::WrongInput => Self::WRONG_INPUT,
            Self::Preempted => Self::PREEMPTED,
            Self::Interrupted => Self::INTERRUPTED,
            Self::Failed => Self::FAILED,
        }
    }

    /// The outcome that an exit code suggests: every code outside the table is a failure.
    pub const fn from_exit_code(code: i32) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::WrongInput,
            75 => Self::Preempted,
            130 => Self::Interrupted,
            _ => Self::Failed,
        }
    }

    /// The final phase in `status.json`. An interrupted run counts as failed, so that a tool that restarts preempted
    /// runs does not restart it.
    pub const fn phase(self) -> Phase {
        match self {
            Self::Done => Phase::Done,
            Self::Preempted => Phase::Preempted,
            Self::WrongInput | Self::Interrupted | Self::Failed => Phase::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_contract_and_come_back() {
        let table = [
            (Outcome::Done, 0, "\"done\"", Phase::Done),
            (Outcome::Failed, 1, "\"failed\"", Phase::Failed),
            (Outcome::WrongInput, 2, "\"wrong_input\"", Phase::Failed),
            (Outcome::Preempted, 75, "\"preempted\"", Phase::Preempted),
            (Outcome::Interrupted, 130, "\"interrupted\"", Phase::Failed),
        ];
        for (outcome, code, json, phase) in table {
            assert_eq!(outcome.exit_code(), code);
            assert_eq!(Outcome::from_exit_code(i32::from(code)), outcome);
            assert_eq!(serde_json::to_string(&outcome).unwrap(), json);
            assert_eq!(outcome.phase(), phase);
        }
    }

    #[test]
    fn an_unknown_code_is_a_failure() {
        for code in [-1, 3, 9, 74, 76, 134, 137, 139, 143, 255, 256 + 75] {
            assert_eq!(Outcome::from_exit_code(code), Outcome::Failed, "{code}");
        }
    }
}
