//! The training step beside the same step in PyTorch: from the same weights, with the same images, in turns.
//!
//! Every side is a process of its own, so that its peak memory is its own. This process starts them, asks each in turn for
//! some steps, and compares. The sides read commands and answer in lines of JSON; `benches/peers/step.py` is the other end in
//! Python.

mod dialogue;
mod report;
pub mod side;

pub use report::{PeerBound, PeerReport, PeerRow};

use crate::engine::failure::Failure;
use dialogue::{Answer, Dialogue};
use report::{Bound, Measured};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Greatest difference of the losses of two sides on the same images, as a share of the loss, by precision.
const SAME_LOSS: [(&str, f64); 2] = [("fp32", 1e-4), ("bf16", 2e-2)];
/// Ways in which PyTorch computes a step.
const MODES: [&str; 2] = ["eager", "compiled"];

/// What to compare.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    /// The script of the peer.
    pub script: PathBuf,
    /// The Python that runs it.
    pub python: PathBuf,
    /// Precisions, in turn.
    pub precisions: Vec<String>,
    /// Steps of each round.
    pub steps: usize,
    /// Rounds in which the sides take turns.
    pub rounds: usize,
    /// Words of the command line that select data, model, method and options.
    pub selection: Vec<String>,
    /// New folder for weights and images that the sides share.
    pub folder: PathBuf,
}

/// Measures all sides.
pub fn compare(options: &PeerOptions) -> Result<PeerReport, Failure> {
    let failed = |error: std::io::Error| {
        Failure::run(format!("cannot make the folder `{}`: {error}", options.folder.display()))
    };
    std::fs::create_dir_all(&options.folder).map_err(failed)?;
    let compared = precisions(options);
    // What cannot be removed is a temporary folder.
    let _ = std::fs::remove_dir_all(&options.folder);
    compared
}

fn precisions(options: &PeerOptions) -> Result<PeerReport, Failure> {
    let mut report = PeerReport { steps: options.steps, rounds: options.rounds, ..PeerReport::default() };
    for precision in &options.precisions {
        let mut sides = open(options, precision)?;
        for _ in 0..options.rounds {
            for side in &mut sides {
                side.measure(options.steps)?;
            }
        }
        let rows = sides.into_iter().map(|side| side.measured).collect::<Vec<_>>();
        same_losses(precision, &rows)?;
        report.add(precision, &rows);
    }
    Ok(report)
}

/// Starts the sides of one precision: ours first, which writes what the others read.
fn open(options: &PeerOptions, precision: &str) -> Result<Vec<Side>, Failure> {
    let program = std::env::current_exe().map_err(Failure::run)?;
    let folder = &options.folder;
    let mut ours = Command::new(program);
    ours.args(["bench", "step", "--side"]).arg(folder).args(&options.selection);
    ours.args(["--set", &format!("train.precision={precision}")]);
    let mut sides = vec![Side::start("lift", ours)?];
    for mode in MODES {
        let mut peer = Command::new(&options.python);
        peer.arg(&options.script).arg(folder).args([mode, precision]);
        sides.push(Side::start(mode, peer)?);
    }
    Ok(sides)
}

/// Two sides that compute the same step have the same loss.
fn same_losses(precision: &str, sides: &[Measured]) -> Result<(), Failure> {
    let near = SAME_LOSS.iter().find(|(name, _)| *name == precision).map_or(1e-4, |(_, near)| *near);
    let Some((ours, peers)) = sides.split_first() else { return Ok(()) };
    let other = peers.iter().find(|peer| {
        let difference = (peer.loss - ours.loss).abs();
        difference.is_nan() || difference > near * ours.loss.abs().max(1e-6)
    });
    match other {
        None => Ok(()),
        Some(peer) => Err(Failure::run(format!(
            "the peer `{}` computes another step in {precision}: on the same images its loss is {}, ours {}\nhint: the peer knows `--method lift` with a CLIP model",
            peer.name, peer.loss, ours.loss
        ))),
    }
}

/// One program that computes steps.
struct Side {
    dialogue: Dialogue,
    measured: Measured,
}

impl Side {
    /// Starts the program, and waits for its first step.
    fn start(name: &str, command: Command) -> Result<Self, Failure> {
        let mut dialogue = Dialogue::start(name, command)?;
        let ready = dialogue.answer()?;
        let loss = ready.number("loss")?;
        let batch = ready.number("batch")?;
        let measured = Measured::new(name, loss, batch, bound(&ready));
        Ok(Self { dialogue, measured })
    }

    /// Some steps in turn.
    fn measure(&mut self, steps: usize) -> Result<(), Failure> {
        let answer = self.dialogue.ask(&steps.to_string())?;
        self.measured.add(&answer.numbers("seconds")?, answer.number("peak_bytes")?);
        self.measured.bounds.extend(bound(&answer));
        Ok(())
    }
}

/// The rates of matrix products, if the side measures them.
fn bound(answer: &Answer) -> Option<Bound> {
    let fastest = answer.number("bound_images_per_second").ok()?;
    let plain = answer.number("plain_bound_images_per_second").ok()?;
    Some(Bound { fastest, plain })
}

/// Whether the script is there, before anything is started.
pub fn check_script(script: &Path) -> Result<(), Failure> {
    if script.is_file() {
        return Ok(());
    }
    Err(Failure::input(format!(
        "`--peer` needs the script of a peer, and `{}` is not a file\nhint: it is `benches/peers/step.py` in the source of LIFT",
        script.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_computes_another_step_is_refused() {
        let side = |name: &str, loss| Measured::new(name, loss, 8.0, None);
        assert!(same_losses("fp32", &[side("lift", 4.5), side("eager", 4.500_1)]).is_ok());
        assert!(same_losses("bf16", &[side("lift", 4.5), side("eager", 4.55)]).is_ok());
        let error = same_losses("fp32", &[side("lift", 4.5), side("eager", 4.55)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the peer `eager` computes another step in fp32: on the same images its loss is 4.55, ours 4.5\nhint: the peer knows `--method lift` with a CLIP model"
        );
        assert!(same_losses("fp32", &[side("lift", 4.5), side("eager", f64::NAN)]).is_err());
    }

    #[test]
    fn a_missing_script_is_named() {
        let error = check_script(Path::new("/nowhere/step.py")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`--peer` needs the script of a peer, and `/nowhere/step.py` is not a file\nhint: it is `benches/peers/step.py` in the source of LIFT"
        );
    }
}
