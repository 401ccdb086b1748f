//! One case: three runs, and the comparison of their results.

use super::compare::{ComparedOutcome, Equal};
use super::plan::{CombinationPlan, Determinism, InputFiles, Leg, Source};
use protocol::layout;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::stripes::{CLASSES, StripedDataSet};

/// Training images of each class, and test images per class: an epoch has a few steps, the last with fewer samples.
const IMAGES: ([usize; CLASSES], usize) = ([12, 8, 6, 4, 3, 3, 3, 2], 3);
/// Maximum relative difference of losses that differ only by rounding.
const ROUNDING: f64 = 1e-5;
/// Settings of every run: one thread and small batches, because many runs share the cores.
const PRESET: &str = "[train]\nthreads = 1\n[eval]\nbatch_size = 8\n";
/// Timeout of a run, which takes one or two seconds on an idle machine.
const TIMEOUT: Duration = Duration::from_mins(3);

/// The data that all cases share.
#[derive(Debug)]
pub struct SharedInputs {
    /// Input files of the runs.
    pub inputs: InputFiles,
    folder: PathBuf,
    planted: Option<String>,
}

impl SharedInputs {
    /// Writes the images.
    pub fn open(folder: &Path, planted: Option<String>) -> io::Result<Self> {
        let images = folder.join("images");
        let data = StripedDataSet::write(&images, IMAGES.0, IMAGES.1)?;
        let preset = images.join("stripes.toml");
        fs::write(&preset, data.preset() + PRESET)?;
        let prompts = images.join("texts.json");
        let text =
            |name: &str| (name.to_owned(), [format!("a photo of a {name}"), format!("a plain {name}")]);
        let of_class: BTreeMap<_, _> = data.class_names().into_iter().map(text).collect();
        fs::write(&prompts, serde_json::to_vec(&of_class)?)?;
        Ok(Self { inputs: InputFiles { preset, prompts }, folder: folder.to_path_buf(), planted })
    }
}

/// A case in progress.
#[derive(Debug)]
pub struct Combination<'a> {
    shared: &'a SharedInputs,
    plan: &'a CombinationPlan,
    /// Folder of its runs.
    pub folder: PathBuf,
    /// The commands that were started so far.
    commands: RefCell<Vec<String>>,
    /// Maximum relative difference of losses that may differ only by rounding.
    pub rounding: Cell<f64>,
}

impl<'a> Combination<'a> {
    /// Prepares a case.
    pub fn new(shared: &'a SharedInputs, plan: &'a CombinationPlan, number: u64) -> Self {
        let folder = shared.folder.join(number.to_string());
        Self { shared, plan, folder, commands: RefCell::default(), rounding: Cell::default() }
    }

    /// Runs the case; an error contains the commands that reproduce it.
    pub fn run(&self) -> Result<(), String> {
        self.run_and_compare().map_err(|problem| {
            let commands = self.commands.borrow().join("\n  ");
            format!("{problem}\n  {commands}")
        })
    }

    fn run_and_compare(&self) -> Result<(), String> {
        let CombinationPlan { determinism, alone, among, resumed, .. } = self.plan;
        fs::create_dir_all(&self.folder).map_err(|error| error.to_string())?;
        let equality_across_worlds =
            if *determinism == Determinism::AnyWorld { Equal::Bitwise } else { Equal::Within(ROUNDING) };
        let alone = self.run_to_end("alone", alone, &[])?;
        let Some(resumed) = resumed else {
            return self.equal(
                "among",
                &self.run_to_end("among", among, &[])?,
                &alone,
                equality_across_worlds,
            );
        };
        let step = resumed.step;
        if resumed.from == Source::OwnFolder {
            let limit = ["--set".to_owned(), format!("train.max_steps={step}")];
            self.start("among", among, &limit)?;
            let resume = ["--resume", "auto", "--allow-changed", "train.max_steps"].map(str::to_owned);
            return self.equal(
                "resumed",
                &self.run_to_end("among", &resumed.leg, &resume)?,
                &alone,
                equality_across_worlds,
            );
        }
        let settings = [format!("checkpoint.every_steps={step}"), "checkpoint.keep=10".to_owned()];
        let settings = settings.map(|setting| ["--set".to_owned(), setting]).concat();
        let among = self.run_to_end("among", among, &settings)?;
        self.equal("among", &among, &alone, equality_across_worlds)?;
        let checkpoint = self.folder.join("among").join(layout::CHECKPOINTS).join(layout::checkpoint(step));
        let resume = ["--resume".to_owned(), checkpoint.display().to_string()];
        let resumed = self.run_to_end("resumed", &resumed.leg, &resume)?;
        let (expected, equality) = match determinism {
            Determinism::SameWorld => (&among, Equal::Bitwise),
            Determinism::AnyWorld | Determinism::Fast => (&alone, equality_across_worlds),
        };
        self.equal("resumed", &resumed, expected, equality)
    }

    /// Runs to the end of the training, and reads the result.
    fn run_to_end(&self, run: &str, leg: &Leg, arguments: &[String]) -> Result<ComparedOutcome, String> {
        self.start(run, leg, arguments)?;
        ComparedOutcome::read(&self.folder.join(run), &self.predictions(run))
    }

    fn start(&self, run: &str, leg: &Leg, arguments: &[String]) -> Result<(), String> {
        let mut command = self.command(run, leg, arguments);
        self.commands.borrow_mut().push(format!("{command:?}"));
        let ended = tests::run_within(&mut command, TIMEOUT).map_err(|error| error.to_string())?;
        match ended {
            Some(output) if output.status.success() => Ok(()),
            Some(output) => {
                let output_text = tests::stderr(&output);
                // Omits the text that mpirun adds.
                let output_text: Vec<_> =
                    output_text.lines().take_while(|line| !line.starts_with("-----")).collect();
                Err(format!("`{run}` ended with {}: {}", output.status, output_text.join("\n")))
            }
            None => Err(format!("`{run}` did not end within {TIMEOUT:?}")),
        }
    }

    fn command(&self, run: &str, leg: &Leg, arguments: &[String]) -> Command {
        let planted = self.shared.planted.as_deref().filter(|_| run != "alone");
        let program = match planted {
            None | Some(OTHER_SEED) => "lift-trainer",
            Some(_) => "lift-trainer-faults",
        };
        let mut command = tests::trainer_command(program, leg.ranks);
        // Waiting ranks yield the cores to other processes.
        command.env("OMP_NUM_THREADS", "1").env("OMPI_MCA_mpi_yield_when_idle", "1");
        command.args(["train", "-q", "-m", "demo", "-d"]).arg(&self.shared.inputs.preset);
        for setting in self.plan.settings_of(leg) {
            command.args(["--set", &setting]);
        }
        match planted {
            Some(OTHER_SEED) => drop(command.args(["--set", "train.seed=1000"])),
            Some(bug) => drop(command.env("LIFT_PLANTED", bug)),
            None => {}
        }
        command.args(arguments).arg("--predictions").arg(self.predictions(run));
        command.arg("--output").arg(self.folder.join(run));
        command
    }

    fn equal(
        &self,
        name: &str,
        found: &ComparedOutcome,
        expected: &ComparedOutcome,
        equality: Equal,
    ) -> Result<(), String> {
        let (differences, distance) = (found.differences(expected, equality), found.distance(expected));
        if equality != Equal::Bitwise {
            self.rounding.set(self.rounding.get().max(distance));
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!("`{name}`, {equality:?}: {} (losses differ by {distance:.1e})", differences.join("; ")))
    }

    fn predictions(&self, run: &str) -> PathBuf {
        self.folder.join(format!("{run}.txt"))
    }
}

/// The planted bug that does not need `lift-trainer-faults`.
const OTHER_SEED: &str = "other_seed";
