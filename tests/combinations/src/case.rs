//! One case: its three runs, and what must be equal.

use super::compare::{ComparedOutcome, Equal};
use super::plan::{CombinationPlan, Leg, Promise, Source, Stock};
use protocol::layout;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::stripes::{CLASSES, StripedDataSet};

/// Training images of each class, and test images of every class: a few steps make an epoch, and the last of them is short.
const IMAGES: ([usize; CLASSES], usize) = ([12, 8, 6, 4, 3, 3, 3, 2], 3);
/// By how much losses may differ where only roundings do.
const ROUNDING: f64 = 1e-5;
/// What every run is told beside its images: little, and by one thread, since many runs share the cores.
const PRESET: &str = "[train]\nthreads = 1\n[eval]\nbatch_size = 8\n";
/// How long a run may take on a machine that is busy with others; it takes a second or two.
const TIMEOUT: Duration = Duration::from_mins(3);

/// What all cases share.
#[derive(Debug)]
pub struct Shop {
    /// What runs may read.
    pub stock: Stock,
    folder: PathBuf,
    planted: Option<String>,
}

impl Shop {
    /// Writes the images.
    pub fn open(folder: &Path, planted: Option<String>) -> io::Result<Self> {
        let images = folder.join("images");
        let data = StripedDataSet::write(&images, IMAGES.0, IMAGES.1)?;
        let preset = images.join("stripes.toml");
        fs::write(&preset, data.preset() + PRESET)?;
        let texts = images.join("texts.json");
        let text =
            |name: &str| (name.to_owned(), [format!("a photo of a {name}"), format!("a plain {name}")]);
        let of_class: BTreeMap<_, _> = data.class_names().into_iter().map(text).collect();
        fs::write(&texts, serde_json::to_vec(&of_class)?)?;
        Ok(Self { stock: Stock { preset, texts }, folder: folder.to_path_buf(), planted })
    }
}

/// A case under way.
#[derive(Debug)]
pub struct Combination<'a> {
    shop: &'a Shop,
    plan: &'a CombinationPlan,
    /// Where its runs lie.
    pub folder: PathBuf,
    /// The commands so far.
    commands: RefCell<Vec<String>>,
    /// The greatest share by which losses differed that only roundings may change.
    pub rounding: Cell<f64>,
}

impl<'a> Combination<'a> {
    /// A case that is to be played.
    pub fn new(shop: &'a Shop, plan: &'a CombinationPlan, number: u64) -> Self {
        let folder = shop.folder.join(number.to_string());
        Self { shop, plan, folder, commands: RefCell::default(), rounding: Cell::default() }
    }

    /// Plays it; what is wrong stands with the commands that show it.
    pub fn play(&self) -> Result<(), String> {
        self.compared().map_err(|problem| {
            let commands = self.commands.borrow().join("\n  ");
            format!("{problem}\n  {commands}")
        })
    }

    fn compared(&self) -> Result<(), String> {
        let CombinationPlan { promise, alone, among, resumed, .. } = self.plan;
        fs::create_dir_all(&self.folder).map_err(|error| error.to_string())?;
        let across = if *promise == Promise::AnyWorld { Equal::Bitwise } else { Equal::Within(ROUNDING) };
        let alone = self.finish("alone", alone, &[])?;
        let Some(resumed) = resumed else {
            return self.equal("among", &self.finish("among", among, &[])?, &alone, across);
        };
        let step = resumed.step;
        if resumed.from == Source::OwnFolder {
            let limit = ["--set".to_owned(), format!("train.max_steps={step}")];
            self.start("among", among, &limit)?;
            let resume = ["--resume", "auto", "--allow-changed", "train.max_steps"].map(str::to_owned);
            return self.equal("resumed", &self.finish("among", &resumed.leg, &resume)?, &alone, across);
        }
        let settings = [format!("checkpoint.every_steps={step}"), "checkpoint.keep=10".to_owned()];
        let settings = settings.map(|setting| ["--set".to_owned(), setting]).concat();
        let among = self.finish("among", among, &settings)?;
        self.equal("among", &among, &alone, across)?;
        let checkpoint = self.folder.join("among").join(layout::CHECKPOINTS).join(layout::checkpoint(step));
        let resume = ["--resume".to_owned(), checkpoint.display().to_string()];
        let resumed = self.finish("resumed", &resumed.leg, &resume)?;
        let (expected, how) = match promise {
            Promise::SameWorld => (&among, Equal::Bitwise),
            Promise::AnyWorld | Promise::Fast => (&alone, across),
        };
        self.equal("resumed", &resumed, expected, how)
    }

    /// Runs a leg to the end of the run, and reads what it left.
    fn finish(&self, run: &str, leg: &Leg, arguments: &[String]) -> Result<ComparedOutcome, String> {
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
                let said = tests::stderr(&output);
                // Not what mpirun adds.
                let said: Vec<_> = said.lines().take_while(|line| !line.starts_with("-----")).collect();
                Err(format!("`{run}` ended with {}: {}", output.status, said.join("\n")))
            }
            None => Err(format!("`{run}` did not end within {TIMEOUT:?}")),
        }
    }

    fn command(&self, run: &str, leg: &Leg, arguments: &[String]) -> Command {
        let planted = self.shop.planted.as_deref().filter(|_| run != "alone");
        let program = match planted {
            None | Some(OTHER_SEED) => "lift-trainer",
            Some(_) => "lift-trainer-faults",
        };
        let mut command = tests::started(program, leg.ranks);
        // Ranks that wait leave the few cores to the others.
        command.env("OMP_NUM_THREADS", "1").env("OMPI_MCA_mpi_yield_when_idle", "1");
        command.args(["train", "-q", "-m", "demo", "-d"]).arg(&self.shop.stock.preset);
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
        how: Equal,
    ) -> Result<(), String> {
        let (differences, distance) = (found.differences(expected, how), found.distance(expected));
        if how != Equal::Bitwise {
            self.rounding.set(self.rounding.get().max(distance));
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!("`{name}`, {how:?}: {} (losses differ by {distance:.1e})", differences.join("; ")))
    }

    fn predictions(&self, run: &str) -> PathBuf {
        self.folder.join(format!("{run}.txt"))
    }
}

/// The planted bug that needs no other program.
const OTHER_SEED: &str = "other_seed";
