//! Runs every `lift-trainer bench` on several ranks, and the scaling model with the results (`make bench`).
//!
//! The reports (JSON) and the constants of the model are in `target/bench/`; `LIFT_UPDATE_DOCS=1` copies the
//! constants to those of `docs/scaling.md`. World sizes take turns, so that other load on the machine affects them
//! equally. `--quick` measures less. Names of parts (`collectives samplers steps checkpoints scaling`) run only
//! those.

use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use tests::synthetic::{SyntheticTower, data_set};
use tests::{json, mpirun, shared};

/// World sizes of the detailed measurements.
const WORLDS: [usize; 3] = [1, 2, 4];
/// World sizes with which the model is compared.
const SCALED: [usize; 4] = [1, 2, 3, 4];
/// Size in bytes of a trained and reduced value.
const TRAINED_BYTES: f64 = 4.0;

fn main() -> ExitCode {
    let (flags, parts): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let known = flags.iter().all(|flag| flag == "--quick")
        && parts.iter().all(|part| PARTS.iter().any(|(name, _)| name == part));
    if !known {
        eprintln!(
            "usage: scripts/bench.sh [--quick] [collectives] [samplers] [steps] [checkpoints] [scaling]"
        );
        return ExitCode::from(2);
    }
    let bench = BenchProgram::new(!flags.is_empty());
    for (name, part) in PARTS {
        if parts.is_empty() || parts.iter().any(|wanted| wanted == name) {
            part(&bench);
        }
    }
    ExitCode::SUCCESS
}

type Part = fn(&BenchProgram);

/// The parts, which can run separately; the last needs the reports of the first.
const PARTS: [(&str, Part); 5] = [
    ("collectives", BenchProgram::collectives),
    ("samplers", BenchProgram::samplers),
    ("steps", BenchProgram::steps),
    ("checkpoints", BenchProgram::checkpoints),
    ("scaling", BenchProgram::scaling),
];

struct BenchProgram {
    root: PathBuf,
    reports: PathBuf,
    data: Option<PathBuf>,
    /// Name and arguments of each training.
    runs: Vec<(&'static str, Vec<String>)>,
    steps: Vec<String>,
    max_bytes: String,
    turns: usize,
    quick: bool,
}

impl BenchProgram {
    fn new(quick: bool) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository");
        let reports = root.join("target/bench");
        std::fs::create_dir_all(&reports).expect("target/bench can be made");
        let (data, backbones) =
            (shared("bench", "LIFT_DATA", "data"), shared("bench", "LIFT_BACKBONES", "backbones"));
        let mut runs = vec![("demo", Vec::new())];
        if let (Some(data), Some(backbones)) = (&data, &backbones) {
            let weights = backbones.join("tiny-clip/model.safetensors");
            let root = format!("data.root={}", data.join("cifar100").display());
            let weights = format!("model.weights={}", weights.display());
            let words = ["-d", "cifar100_ir100", "-m", "tiny_clip", "--set", &root, "--set", &weights];
            runs.push(("tiny-clip", words.map(str::to_owned).to_vec()));
        }
        let (steps, rounds) = if quick { ("3", "3") } else { ("8", "5") };
        let mut steps = ["--steps", steps, "--rounds", rounds].map(str::to_owned).to_vec();
        if quick {
            // Fewer steps between rounds, which only consume prefetched batches.
            steps.extend(["--set", "data.prefetch=1"].map(str::to_owned));
        }
        let max_bytes = if quick { 1 << 20 } else { 64 << 20 }.to_string();
        Self { root, reports, data, runs, steps, max_bytes, turns: if quick { 2 } else { 5 }, quick }
    }

    /// Runs `lift-trainer bench`, prints the command and the table, and returns the report.
    fn run(&self, ranks: usize, name: &str, arguments: &[&str]) -> Value {
        let trainer = std::env::current_exe().expect("own path").with_file_name("lift-trainer");
        let save = self.reports.join(format!("{name}.json"));
        let mut command = if ranks == 1 { Command::new(&trainer) } else { mpirun(ranks) };
        if ranks > 1 {
            command.arg(&trainer);
        }
        command.arg("bench").args(arguments).arg("--save").arg(&save);
        println!("\n## {name}\n\n{}\n", shown(ranks, arguments));
        let status = command.status().expect("the command starts");
        assert!(status.success(), "{name} ended with {status}");
        json(&save)
    }

    fn collectives(&self) {
        for ranks in SCALED {
            let arguments = ["collectives", "--max-bytes", &self.max_bytes];
            self.run(ranks, &format!("collectives-{ranks}"), &arguments);
        }
    }

    fn samplers(&self) {
        self.run(1, "sampler-demo", &["sampler"]);
        if let Some(data) = &self.data {
            let counts = data.join("lists/inat2018_counts.txt");
            self.run(1, "sampler-inat2018", &["sampler", "--counts", &counts.display().to_string()]);
        }
        if !self.quick {
            self.run(1, "sampler-zipf", &["sampler", "--zipf", "100000000,1000000"]);
        }
    }

    fn steps(&self) {
        for (name, select) in &self.runs {
            for ranks in WORLDS {
                let mut arguments = vec!["step"];
                arguments.extend(select.iter().chain(&self.steps).map(String::as_str));
                self.run(ranks, &format!("step-{name}-{ranks}"), &arguments);
            }
        }
    }

    /// Checkpoints with the size of those of iNaturalist 2018 with ViT-B/16.
    fn checkpoints(&self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let weights = folder.path().join("vit_b16.safetensors");
        SyntheticTower::VIT_B16.write(&weights).expect("the weights can be written");
        let data = data_set(folder.path(), 0..8142).expect("the lists can be written").display().to_string();
        let weights = format!("model.weights={}", weights.display());
        let place = folder.path().join("run").display().to_string();
        let mut arguments = vec!["step", "-d", &data, "-m", "in21k_vit_b16", "--folder", &place];
        arguments.extend(["--compare", "none", "--steps", "1", "--rounds", "1", "--snapshots", "9"]);
        for setting in [&weights, "head.init=random", "train.batch_size=4", "train.micro_batch_size=4"] {
            arguments.extend(["--set", setting]);
        }
        for ranks in [1, 2] {
            self.run(ranks, &format!("checkpoint-inat2018-{ranks}"), &arguments);
        }
    }

    /// Steps with one thread per rank, for the model.
    fn scaling(&self) {
        let (name, select) = self.runs.last().expect("the demo at least");
        let mut base = vec!["step"];
        base.extend(select.iter().chain(&self.steps).map(String::as_str));
        base.extend(["--set", "train.threads=1", "--set", "head.placement=replicated", "--snapshots", "0"]);
        let mut found: Vec<(usize, Value)> = Vec::new();
        let mut others = Vec::new();
        for turn in 0..self.turns {
            for ranks in SCALED {
                others.extend(others_running());
                let compare = ["--compare", ["samples", "overlap", "none", "none"][ranks - 1]];
                let report =
                    self.run(ranks, &format!("scaling-{ranks}-{turn}"), &[&base[..], &compare].concat());
                found.push((ranks, report));
            }
        }
        let path = self.reports.join("measured.toml");
        std::fs::write(&path, self.measured(name, &found, median(others)))
            .expect("the constants can be written");
        if std::env::var_os("LIFT_UPDATE_DOCS").is_some_and(|value| value == "1") {
            let page = self.root.join("tests/scaling/measured.toml");
            std::fs::copy(&path, page).expect("the constants of the page can be written");
        }
        println!("\n## scaling\n\ntarget/release/scaling --measured target/bench/measured.toml\n");
        let model = std::env::current_exe().expect("own path").with_file_name("scaling");
        let status = Command::new(model).arg("--measured").arg(&path).status();
        assert!(status.expect("the command starts").success());
    }

    /// The constants of the model, as TOML.
    fn measured(&self, name: &str, found: &[(usize, Value)], others: f64) -> String {
        let (_, first) = &found[0];
        let two = |place: &str| median_at(found, 2, place);
        let gradient = number(first, "/trainable_parameters") * TRAINED_BYTES;
        let mut text = format!(
            "# Written by `make bench`: seconds and bytes, medians of {} turns.\ndate = {:?}\nmachine = {:?}\ncores = {}\nothers = {others}\n",
            self.turns,
            today(),
            machine(),
            cores(),
        );
        let _ = writeln!(text, "run = \"LIFT, {name}, one thread per rank\"");
        let _ = writeln!(text, "batch_size = {}", number(first, "/selected/batch_size"));
        let _ =
            writeln!(text, "gradient_bytes = {gradient}\ncalls = {}", two("/selected/figures/collectives"));
        for variant in 0..3 {
            let at = |end: &str| format!("/comparisons/0/variants/{variant}/{end}");
            let samples = number(first, &at("batch_size"));
            let step = median_at(found, 1, &at("figures/step_seconds"));
            let _ = writeln!(text, "\n[[alone]]\nsamples = {samples}\nstep = {step}");
        }
        for ranks in SCALED {
            let of = |name: &str| median_at(found, ranks, &format!("/selected/figures/{name}"));
            let computing = of("forward_backward_seconds") + of("optimiser_seconds");
            let (latency, bandwidth) = self.link(ranks, gradient);
            let _ = writeln!(text, "\n[[worlds]]\nranks = {ranks}\nstep = {}", of("step_seconds"));
            let _ = writeln!(text, "compute = {computing}\nexposed = {}", of("exposed_seconds"));
            let _ = writeln!(text, "latency = {latency}\nbandwidth = {bandwidth}");
        }
        let side = |variant: usize| two(&format!("/comparisons/0/variants/{variant}/figures/step_seconds"));
        let _ = writeln!(
            text,
            "\n[overlap]\nranks = 2\non = {}\noff = {}\nsilent = {}",
            side(0),
            side(1),
            side(2)
        );
        text
    }

    /// Latency and bandwidth of asynchronous all-reduces: of the smallest, and of one about as large as the gradient.
    fn link(&self, ranks: usize, gradient: f64) -> (f64, f64) {
        if ranks == 1 {
            return (0.0, 0.0);
        }
        let report = json(&self.reports.join(format!("collectives-{ranks}.json")));
        let rows: Vec<(f64, f64)> = report["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .filter(|row| row["operation"] == "start_all_reduce")
            .map(|row| (number(row, "/bytes"), number(row, "/seconds")))
            .collect();
        let small: Vec<f64> = rows.iter().filter(|row| row.0 <= 256.0).map(|row| row.1).collect();
        let latency = median(small);
        let distance = |bytes: f64| (bytes / gradient).ln().abs();
        let near = rows.iter().min_by(|a, b| distance(a.0).total_cmp(&distance(b.0))).expect("a row");
        let sent = 2.0 * (ranks as f64 - 1.0) / ranks as f64 * near.0;
        (latency, sent / (near.1 - latency).max(1e-9))
    }
}

/// Samples of the number of other runnable processes.
fn others_running() -> Vec<f64> {
    let look = || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let text = std::fs::read_to_string("/proc/loadavg").ok()?;
        let (running, _) = text.split(' ').nth(3)?.split_once('/')?;
        // This process is runnable itself.
        Some(running.parse::<f64>().ok()? - 1.0)
    };
    (0..20).filter_map(|_| look()).collect()
}

/// The command as a user types it.
fn shown(ranks: usize, arguments: &[&str]) -> String {
    let start = if ranks == 1 { String::new() } else { format!("scripts/mpirun.sh -n {ranks} ") };
    format!("{start}target/release/lift-trainer bench {}", arguments.join(" "))
}

fn number(value: &Value, place: &str) -> f64 {
    value.pointer(place).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The median over the turns of one world size.
fn median_at(found: &[(usize, Value)], ranks: usize, place: &str) -> f64 {
    median(found.iter().filter(|report| report.0 == ranks).map(|report| number(&report.1, place)).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = model.map_or("unknown processor", |(_, name)| name.trim());
    format!("{} cores of {name}", cores())
}

/// The current date.
fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map_or_else(|_| "-".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
