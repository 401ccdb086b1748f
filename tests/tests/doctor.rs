//! `lift doctor` on this machine, and with parts of it taken away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tests::launched::{fake_trainer, processes_of, repository, wait_for};
use tests::{binary, run, stderr, succeed};

/// Longest time of the command on a machine that is busy with other tests. On an idle one, all limits together are
/// less than five seconds.
const LONGEST: Duration = Duration::from_secs(30);

/// Variables that promise GPUs or a job to this process, or libraries to the trainer.
const FOREIGN: [&str; 9] = [
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "NVIDIA_VISIBLE_DEVICES",
    "SLURM_GPUS_ON_NODE",
    "SLURM_JOB_GPUS",
    "SLURM_JOB_ID",
    "SLURM_STEP_GPUS",
    "NCCL_RS_LIBRARY",
    "LIFT_RESTART_COUNT",
];

/// `lift doctor --json` with the trainer of this build, in this folder.
fn doctor(folder: &Path) -> Command {
    own(Command::new(binary("lift")), folder)
}

fn own(mut command: Command, folder: &Path) -> Command {
    command.args(["doctor", "--json"]).current_dir(folder).env("LIFT_TRAINER", binary("lift-trainer"));
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
}

/// The same in a mount name space of its own, after these commands. `None`, said aloud, where that is not allowed.
fn doctor_after(test: &str, mounts: &str, folder: &Path) -> Option<Command> {
    let prepare = format!("set -e; {mounts}");
    let mut attempt = Command::new("unshare");
    if !run(attempt.args(["-rm", "sh", "-c", &prepare]).current_dir(folder)).status.success() {
        eprintln!("skipped: {test} (no mount name spaces here)");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{prepare}; exec \"$@\""), "sh"]).arg(binary("lift"));
    Some(own(command, folder))
}

/// What the command reported, and its exit code.
struct Diagnosis {
    json: Value,
    code: i32,
}

impl Diagnosis {
    fn of(mut command: Command) -> Self {
        let start = Instant::now();
        let output = run(&mut command);
        assert!(start.elapsed() < LONGEST, "it took {:?}", start.elapsed());
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", all(&output)));
        Self { json, code: output.status.code().unwrap() }
    }

    /// The only finding about this area that is not ok: its level, text and hint.
    fn problem(&self, area: &str) -> [String; 3] {
        let of_area = self.findings().filter(|one| one["area"] == area && one["level"] != "ok");
        let found: Vec<&Value> = of_area.collect();
        assert_eq!(found.len(), 1, "{area}: {:#}", self.json["findings"]);
        ["level", "text", "hint"].map(|name| found[0][name].as_str().unwrap_or_default().to_owned())
    }

    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.json["findings"].as_array().unwrap().iter()
    }

    /// The levels of an area.
    fn levels(&self, area: &str) -> Vec<&str> {
        self.findings().filter(|one| one["area"] == area).map(|one| one["level"].as_str().unwrap()).collect()
    }

    /// Areas with an error.
    fn errors(&self) -> Vec<&str> {
        let errors = self.findings().filter(|one| one["level"] == "error");
        errors.map(|one| one["area"].as_str().unwrap()).collect()
    }
}

fn all(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(output))
}

/// A folder with these shell scripts, and nothing else, for PATH.
fn programs(folder: &Path, scripts: &[(&str, &str)]) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for (name, script) in scripts {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

fn has_gpu() -> bool {
    Path::new("/proc/driver/nvidia/version").exists()
}

/// The folder of the MPI library of the trainer, if nothing else is in it.
fn folder_of_mpi(found: &Diagnosis) -> Option<PathBuf> {
    let path = Path::new(found.json["facts"]["trainer"]["mpi"]["path"].as_str()?).canonicalize().ok()?;
    let folder = path.parent()?;
    let is_own = std::fs::read_dir(folder).ok()?.flatten().all(|entry| entry.file_name() != "libc.so.6");
    is_own.then(|| folder.to_owned())
}

#[test]
fn this_machine_is_ready_and_every_remark_has_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let found = Diagnosis::of(doctor(folder.path()));
    assert_eq!(found.errors(), Vec::<&str>::new());
    assert_eq!((found.code, &found.json["ready"]), (0, &Value::Bool(true)));
    for area in
        ["cores", "memory", "gpus", "trainer", "libtorch", "nccl", "mpi", "slurm", "/dev/shm", "output"]
    {
        assert!(!found.levels(area).is_empty(), "{area}: {:#}", found.json["findings"]);
    }
    for area in ["cores", "trainer", "mpi"] {
        assert_eq!(found.levels(area), ["ok"], "{:#}", found.json["findings"]);
    }
    for one in found.findings() {
        assert_eq!(one["level"] == "ok", one["hint"].is_null(), "{one}");
    }
    let plan = &found.json["run"];
    assert_eq!((&plan["ranks"], plan["backend"].as_str()), (&Value::from(1), Some("none")));
    assert!(plan["threads"].as_u64().unwrap() >= 1 && plan["workers"].as_u64().unwrap() >= 1);
    if !has_gpu() {
        assert_eq!(
            (plan["device"].as_str(), plan["backend_of_several"].as_str()),
            (Some("cpu"), Some("mpi"))
        );
    }
    let trainer = &found.json["facts"]["trainer"];
    assert!(Path::new(trainer["libtorch"]["path"].as_str().unwrap()).is_file());
    assert!(trainer["libtorch_version"].as_str().unwrap().contains('.'));
    let output = &found.json["facts"]["output"];
    assert!(output["write_bytes_per_second"].as_f64().unwrap() > 0.0, "{output}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
}

#[test]
fn the_report_for_people_has_the_same_findings_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = doctor(folder.path());
    command.args(["--output", "/nowhere/\u{1b}[1m"]);
    let json = Diagnosis::of(command);
    let mut command = Command::new(binary("lift"));
    command.args(["doctor", "--output", "/proc/runs"]).current_dir(folder.path());
    command.env("LIFT_TRAINER", binary("lift-trainer")).env_remove("LD_LIBRARY_PATH");
    let output = run(&mut command);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for one in json.findings() {
        assert!(text.contains(one["area"].as_str().unwrap()), "{}: {text}", one["area"]);
    }
    assert!(text.contains("output         error    `/proc/runs` cannot be used: "), "{text}");
    assert!(text.contains("\n                        hint: choose a folder that you can write"), "{text}");
    assert!(text.contains("\ntraining cannot start: 1 error"), "{text}");
    assert!(!text.contains("A run here would use"), "{text}");
    let help =
        |words: &[&str]| String::from_utf8(succeed(Command::new(binary("lift")).args(words)).stdout).unwrap();
    assert!(help(&["--help"]).contains("`lift doctor` names the reason"));
    assert!(!help(&["--help"]).contains("probe"), "the probes are hidden");
    assert!(help(&["doctor", "--help"]).contains("Exit codes: 0 training can start"));
}

#[test]
fn without_mpirun_there_is_one_rank() {
    if repository().join(".mpi").exists() {
        eprintln!("skipped: without_mpirun_there_is_one_rank (mpirun is beside the programs)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = doctor(folder.path());
    command.env("PATH", programs(folder.path(), &[]));
    let found = Diagnosis::of(command);
    let [level, text, hint] = found.problem("mpi");
    assert_eq!((level.as_str(), found.code), ("warning", 0));
    assert!(text.starts_with("there is no `mpirun` on PATH, so `lift run` starts one rank only"), "{text}");
    assert!(hint.starts_with("load the module of ") && hint.ends_with("(`make setup`)"), "{hint}");
    assert_eq!(found.json["run"]["backend_of_several"], Value::Null);
    assert_eq!(found.levels("slurm"), ["ok"]);
    assert!(found.levels("pmix").is_empty());
}

#[test]
fn an_mpirun_of_another_mpi_is_named() {
    if repository().join(".mpi").exists() {
        eprintln!("skipped: an_mpirun_of_another_mpi_is_named (mpirun is beside the programs)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "echo 'HYDRA build details:'; echo '    Version:                                 3.4.1'";
    let mut command = doctor(folder.path());
    command.env("PATH", programs(folder.path(), &[("mpirun", script)]));
    let found = Diagnosis::of(command);
    let [level, text, hint] = found.problem("mpi");
    assert_eq!((level.as_str(), found.code), ("warning", 0));
    assert!(text.starts_with("MPICH 3.4.1, ") && text.ends_with("several ranks cannot start"), "{text}");
    assert!(hint.contains("first on PATH"), "{hint}");
}

#[test]
fn without_the_library_of_mpi_the_trainer_does_not_load() {
    const TEST: &str = "without_the_library_of_mpi_the_trainer_does_not_load";
    let folder = tempfile::tempdir().unwrap();
    let Some(mpi) = folder_of_mpi(&Diagnosis::of(doctor(folder.path()))) else {
        eprintln!("skipped: {TEST} (the MPI library has no folder of its own)");
        return;
    };
    let hide = format!("mount -t tmpfs none '{}'", mpi.display());
    let Some(command) = doctor_after(TEST, &hide, folder.path()) else { return };
    let found = Diagnosis::of(command);
    let [level, text, hint] = found.problem("trainer");
    assert_eq!((level.as_str(), found.code), ("error", 2));
    assert!(
        text.contains("does not load, because these libraries are not found: ") && text.contains("libmpi")
    );
    assert!(hint.contains("load the MPI module that the trainer was built with"), "{hint}");
    assert_eq!(found.json["run"], Value::Null);
}

#[test]
fn without_libtorch_the_trainer_does_not_load() {
    let folder = tempfile::tempdir().unwrap();
    // A copy looks for libtorch beside itself.
    let trainer = folder.path().join("lift-trainer");
    std::fs::copy(binary("lift-trainer"), &trainer).unwrap();
    let mut command = doctor(folder.path());
    command.env("LIFT_TRAINER", &trainer);
    let found = Diagnosis::of(command);
    let [level, text, hint] = found.problem("trainer");
    assert_eq!((level.as_str(), found.code), ("error", 2));
    assert!(text.starts_with(&format!("`{}` does not load", trainer.display())), "{text}");
    assert!(text.contains("libtorch_cpu.so") && text.contains("libc10.so"), "{text}");
    assert!(
        hint.contains("install libtorch (`make setup`), or add its `lib` folder to LD_LIBRARY_PATH"),
        "{hint}"
    );
    assert!(found.levels("libtorch").is_empty());
}

#[test]
fn a_trainer_that_is_absent_or_another_program_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let with = |trainer: &Path| {
        let mut command = doctor(folder.path());
        command.env("LIFT_TRAINER", trainer);
        Diagnosis::of(command)
    };
    let absent = with(Path::new("/nowhere/lift-trainer"));
    let expected = [
        "error",
        "`/nowhere/lift-trainer` does not exist or is not a program",
        "build it with `make build`, or set LIFT_TRAINER to its path",
    ];
    assert_eq!((absent.problem("trainer"), absent.code), (expected.map(str::to_owned), 2));
    let other = with(&fake_trainer());
    let [level, text, _] = other.problem("trainer");
    assert_eq!((level.as_str(), other.code), ("warning", 0));
    assert!(text.ends_with("is of another version: it cannot report its libraries"), "{text}");
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "#!/bin/sh\nkill -ILL $$\n").unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let broken = with(&broken);
    let [level, text, _] = broken.problem("trainer");
    assert_eq!((level.as_str(), broken.code), ("error", 2));
    assert!(text.ends_with("does not run: was ended by the signal SIGILL"), "{text}");
}

#[test]
fn what_hangs_is_given_up_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let hang = format!("sleep 600 & wait # {}", folder.path().display());
    let names = ["mpirun", "sbatch", "srun", "sinfo", "scontrol", "trainer"];
    let bin = programs(folder.path(), &names.map(|name| (name, hang.as_str())));
    let path = std::env::join_paths(
        std::iter::once(bin.clone()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = doctor(folder.path());
    command.env("PATH", path.unwrap()).env("LIFT_TRAINER", bin.join("trainer"));
    let found = Diagnosis::of(command);
    let [level, text, hint] = found.problem("trainer");
    assert!(level == "warning" && text.contains("did not answer within 4 s"), "{text}");
    assert!(hint.starts_with("repeat the command"), "{hint}");
    assert!(found.problem("slurm")[1].contains("no controller answers: did not answer within "));
    assert!(found.levels("pmix").is_empty(), "what `srun` cannot tell without a controller is not reported");
    if !repository().join(".mpi").exists() {
        assert!(found.problem("mpi")[1].contains("does not run: did not answer within "));
    }
    assert_eq!(found.code, 0);
    wait_for("no process is left", LONGEST, || processes_of(&bin).is_empty());
}

#[test]
fn slurm_without_pmix_is_a_warning_and_with_it_is_fine() {
    for (types, level) in [("none pmi2", "warning"), ("none pmix pmix_v4", "ok")] {
        let folder = tempfile::tempdir().unwrap();
        let list = format!("echo 'MPI plugin types are...'; printf '\\t%s\\n' {types}");
        let scripts = [
            ("sbatch", ""),
            ("sinfo", "echo slurm 23.11.4"),
            ("srun", &list),
            ("scontrol", "echo 'Slurmctld(primary) at c is UP'"),
        ];
        let bin = programs(folder.path(), &scripts);
        let path = std::env::join_paths([bin, "/usr/bin".into(), "/bin".into()]).unwrap();
        let mut command = doctor(folder.path());
        command.env("PATH", path).env("SLURM_JOB_ID", "4711").env("SLURM_JOB_NUM_NODES", "2");
        let found = Diagnosis::of(command);
        assert_eq!((found.levels("pmix"), found.code), (vec![level], 0), "{:#}", found.json["findings"]);
        assert_eq!(found.levels("slurm"), ["ok"], "{:#}", found.json["findings"]);
        let slurm = &found.json["facts"]["slurm"];
        assert_eq!((&slurm["version"], &slurm["job"]["nodes"]), (&Value::from("23.11.4"), &Value::from(2)));
        if level == "warning" {
            let [_, text, hint] = found.problem("pmix");
            assert!(text.contains("does not name it: `lift job` starts ranks with `mpirun`"), "{text}");
            assert!(hint.starts_with("ask for Slurm's PMIx plugin"), "{hint}");
        }
    }
}

/// A `/dev` with the devices that programs need, without `/dev/shm`.
const BARE_DEV: &str = "mkdir -p dev old; mount --rbind /dev old; mount -t tmpfs none dev; \
    for name in null zero random urandom; do touch dev/$name; mount --bind old/$name dev/$name; done; \
    ln -s /proc/self/fd dev/fd; mount --move dev /dev";

#[test]
fn shared_memory_may_be_absent_tiny_or_closed() {
    const TEST: &str = "shared_memory_may_be_absent_tiny_or_closed";
    for (mounts, expected) in [
        (BARE_DEV, "it does not exist"),
        ("mount -t tmpfs -o size=1m none /dev/shm", "1.0 MiB of 1.0 MiB free, less than 128.0 MiB"),
        ("mount -t tmpfs -o ro none /dev/shm", "cannot write a file: Read-only file system (os error 30)"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let Some(command) = doctor_after(TEST, mounts, folder.path()) else { return };
        let found = Diagnosis::of(command);
        let [level, text, hint] = found.problem("/dev/shm");
        assert_eq!((level.as_str(), found.code), ("warning", 0));
        assert_eq!(text, format!("{expected}: several ranks on this host may fail or be slow"));
        assert!(hint.starts_with("mount a tmpfs there") && hint.contains("--shm-size=1g"), "{hint}");
    }
}

#[test]
fn gpus_that_are_promised_but_cannot_be_used_are_named() {
    const TEST: &str = "gpus_that_are_promised_but_cannot_be_used_are_named";
    if has_gpu() {
        eprintln!("skipped: {TEST} (this machine has a GPU)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, value: &str| {
        let mut command = doctor(folder.path());
        command.env(name, value);
        Diagnosis::of(command)
    };
    let container = with("NVIDIA_VISIBLE_DEVICES", "all");
    let [level, text, hint] = container.problem("gpus");
    assert_eq!((level.as_str(), container.code), ("warning", 0));
    assert!(
        text.starts_with("NVIDIA_VISIBLE_DEVICES=all promises GPUs, but there is no device file"),
        "{text}"
    );
    assert!(hint.contains("`docker run --gpus all`"), "{hint}");
    // The trainer refuses to train on the CPU in a job with GPUs.
    let job = with("SLURM_JOB_GPUS", "0");
    let [level, text, hint] = job.problem("gpus");
    assert_eq!((level.as_str(), job.code), ("error", 2));
    assert!(
        text.starts_with("this job was allotted GPUs (SLURM_JOB_GPUS=0), but CUDA cannot be used: "),
        "{text}"
    );
    assert!(hint.ends_with("or set train.device=cpu"), "{hint}");

    let files = format!(
        "{BARE_DEV}; mkdir /dev/shm; mount -t tmpfs none /dev/shm; touch /dev/nvidia0 /dev/nvidiactl"
    );
    let Some(command) = doctor_after(TEST, &files, folder.path()) else { return };
    let found = Diagnosis::of(command);
    let [level, text, hint] = found.problem("gpus");
    assert_eq!((level.as_str(), found.code), ("warning", 0));
    assert!(text.starts_with("1 device file in /dev, but the driver cannot be asked: "), "{text}");
    assert!(hint.contains("NVIDIA_DRIVER_CAPABILITIES=compute,utility"), "{hint}");
}

#[test]
fn gpus_are_listed_with_their_users_and_slices() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libnvidia-ml.so.1");
    let source = repository().join("tests/fakes/nvml.c");
    succeed(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source));
    let mut command = doctor(folder.path());
    command.env("LD_LIBRARY_PATH", folder.path());
    let found = Diagnosis::of(command);
    assert_eq!(found.code, 0);
    assert_eq!(found.levels("gpus"), ["ok", "warning", "warning"]);
    let texts: Vec<&str> = found
        .findings()
        .filter(|one| one["area"] == "gpus")
        .map(|one| one["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts[0], "2 Example GPU (80.0 GiB)");
    assert_eq!(texts[1], "GPU 1 is in use by 3 processes, with 30.0 GiB of its memory");
    assert!(
        texts[2].starts_with("GPU 1 is divided into 2 MIG slices (Example GPU MIG 1g.10gb, "),
        "{}",
        texts[2]
    );
    let gpus = &found.json["facts"]["gpus"];
    assert_eq!((&gpus["driver"], &gpus["driver_cuda"]), (&Value::from("550.54.15"), &Value::from("12.4")));
    assert_eq!(gpus["devices"][1]["slices"][1]["uuid"], "MIG-1-2");
    // libtorch is the CPU build here, or its CUDA part finds no such driver.
    assert_eq!(found.levels("nccl").len(), 1);
    assert!(!found.levels("driver").is_empty());
}

#[test]
fn a_folder_for_runs_that_is_full_closed_or_no_folder_is_an_error() {
    const TEST: &str = "a_folder_for_runs_that_is_full_closed_or_no_folder_is_an_error";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let mut command = doctor(folder.path());
    command.args(["--output", "file/runs"]);
    let found = Diagnosis::of(command);
    let [level, text, hint] = found.problem("output");
    assert_eq!((level.as_str(), found.code), ("error", 2));
    assert!(text.starts_with("`file/runs` cannot be used: ") && text.contains("Not a directory"), "{text}");
    assert_eq!(hint, "choose a folder that you can write (`--output`)");

    std::fs::create_dir(folder.path().join("runs")).unwrap();
    let full = "mount -t tmpfs -o size=64k none runs; head -c 64k /dev/zero > runs/file";
    for (mounts, reason, remedy) in [
        (full, "No space left on device", "free space there, or choose another folder (`--output`)"),
        (
            "mount -t tmpfs -o ro none runs",
            "Read-only file system",
            "choose a folder that you can write (`--output`)",
        ),
    ] {
        let Some(command) = doctor_after(TEST, mounts, folder.path()) else { return };
        let found = Diagnosis::of(command);
        let [level, text, hint] = found.problem("output");
        assert_eq!((level.as_str(), found.code), ("error", 2));
        assert!(text.starts_with(&format!("`runs` cannot be used: cannot write a file: {reason}")), "{text}");
        assert_eq!(hint, remedy);
    }
}

#[test]
fn data_are_measured_where_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("images.tar"), vec![7; 1 << 20]).unwrap();
    let with = |path: &Path| {
        let mut command = doctor(folder.path());
        command.arg("--data").arg(path);
        Diagnosis::of(command)
    };
    let found = with(&data);
    assert_eq!((found.levels("data"), found.code), (vec!["ok"], 0));
    assert!(found.json["facts"]["data"]["read_bytes_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(found.json["facts"]["data"]["writable"], Value::Null, "data are not written");
    let absent = with(&folder.path().join("nothing"));
    let [level, text, hint] = absent.problem("data");
    assert_eq!((level.as_str(), absent.code), ("error", 2));
    assert!(text.ends_with("/nothing` does not exist"), "{text}");
    assert_eq!(hint, "set `data.root` to the folder of the data");
}
