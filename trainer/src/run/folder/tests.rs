//! Runs that meet in one folder.

use super::*;
use std::collections::BTreeSet;

const CONFIG: &str = "format = 2\n[train]\nseed = 0\nepochs = 10\n[data]\nroot = \"data\"\nshots = 16\n\
    [origins]\ntrain.seed = \"configs/base.toml\"\n";

fn named(path: &Path) -> Result<RunFolder, RunFolderError> {
    RunFolder::create(&RunDestination::Named(path.to_path_buf()), CONFIG, RunStart::Fresh)
}

fn default_under(parent: &Path) -> Result<RunFolder, RunFolderError> {
    let place = RunDestination::Default {
        parent: parent.join("runs"),
        data: "cifar100_ir100".into(),
        model: "clip_vit_l14@336px".into(),
        method: "lift".into(),
        seed: 3,
    };
    RunFolder::create(&place, CONFIG, RunStart::Fresh)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
    fs::read_dir(folder).unwrap().map(name).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_fresh_folder_holds_configuration_logs_and_lock() {
    let parent = tempfile::tempdir().unwrap();
    let folder = named(&parent.path().join("deep/inside")).unwrap();
    assert_eq!(names(folder.path()), set(&["config.toml", "logs", "run.lock"]));
    assert_eq!(fs::read_to_string(folder.config()).unwrap(), CONFIG);
    let holder = fs::read_to_string(folder.path().join("run.lock")).unwrap();
    assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
    let shown = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned();
    assert_eq!(shown(folder.metrics()), "metrics.jsonl");
    assert_eq!(shown(folder.checkpoints()), "checkpoints");
    assert_eq!(shown(folder.final_weights()), "final.safetensors");
    assert_eq!(shown(folder.result()), "result.json");
}

#[test]
fn files_of_others_do_no_harm() {
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir(parent.path().join("logs")).unwrap();
    fs::write(parent.path().join("logs/slurm-12.out"), "").unwrap();
    fs::write(parent.path().join("notes.txt"), "mine").unwrap();
    named(parent.path()).unwrap();
}

#[test]
fn without_a_name_the_next_free_one_is_taken() {
    let parent = tempfile::tempdir().unwrap();
    let runs: Vec<RunFolder> = (0..3).map(|_| default_under(parent.path()).unwrap()).collect();
    let name =
        |run: &RunFolder| run.path().strip_prefix(parent.path()).unwrap().to_string_lossy().into_owned();
    assert_eq!(name(&runs[0]), "runs/cifar100_ir100-clip_vit_l14@336px-lift-seed3");
    assert_eq!(name(&runs[1]), "runs/cifar100_ir100-clip_vit_l14@336px-lift-seed3-2");
    assert_eq!(name(&runs[2]), "runs/cifar100_ir100-clip_vit_l14@336px-lift-seed3-3");
    drop(runs);
    // The runs are over, but they are still there.
    assert!(name(&default_under(parent.path()).unwrap()).ends_with("seed3-4"));
}

#[test]
fn a_folder_that_is_no_run_keeps_its_name_to_itself() {
    let parent = tempfile::tempdir().unwrap();
    let taken = parent.path().join("runs/cifar100_ir100-clip_vit_l14@336px-lift-seed3");
    fs::create_dir_all(&taken).unwrap();
    fs::write(taken.join("notes.txt"), "mine").unwrap();
    fs::write(numbered(&taken, 2), "a file").unwrap();
    assert_eq!(default_under(parent.path()).unwrap().path(), numbered(&taken, 3));
}

#[test]
fn runs_that_start_at_once_get_folders_of_their_own() {
    let parent = tempfile::tempdir().unwrap();
    let runs: Vec<RunFolder> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..8).map(|_| scope.spawn(|| default_under(parent.path()).unwrap())).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let paths: BTreeSet<&Path> = runs.iter().map(RunFolder::path).collect();
    assert_eq!(paths.len(), 8);
}

#[test]
fn of_runs_that_want_one_folder_at_once_one_gets_it() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let got: Vec<Result<RunFolder, RunFolderError>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..8).map(|_| scope.spawn(|| named(&path))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(got.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for outcome in got {
        assert!(matches!(outcome, Ok(_) | Err(RunFolderError::Locked { .. })), "{outcome:?}");
    }
}

#[test]
fn paths_as_preset_names_become_plain() {
    assert_eq!(plain("cifar100_ir100"), "cifar100_ir100");
    assert_eq!(plain("my/own data.toml"), "own_data");
    assert_eq!(plain("../.."), "..");
    let place = RunDestination::Default {
        parent: "runs".into(),
        data: "a/../../b.toml".into(),
        model: "m\n".into(),
        method: "lift".into(),
        seed: 0,
    };
    assert_eq!(place.first_choice(), Path::new("runs/b-m_-lift-seed0"));
}

/// The whole refusal after the folder's name.
fn refusal(folder: &Path) -> String {
    let error = named(folder).unwrap_err();
    assert!(error.is_wrong_input());
    let message = error.to_string();
    let start = format!("`{}` ", folder.display());
    message.strip_prefix(&start).unwrap_or_else(|| panic!("{message}")).to_owned()
}

#[test]
fn refusals_of_folders_that_hold_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let first = named(path).unwrap();
    let holder = fs::read_to_string(path.join("run.lock")).unwrap();
    assert_eq!(
        refusal(path),
        format!(
            "is being written by {}\nhint: wait for it to end, or choose another --output",
            holder.trim()
        )
    );
    drop(first);
    assert_eq!(
        refusal(path),
        "already holds an unfinished run of this configuration (config.toml)\nhint: resume it with --resume auto, or choose \
         another --output"
    );
    // Where a value comes from is not what it is.
    fs::write(
        path.join("config.toml"),
        CONFIG.replace("configs/base.toml", "--set train.seed=0").replace("format = 2", "format = 1"),
    )
    .unwrap();
    assert!(refusal(path).starts_with("already holds an unfinished run of this configuration"));

    fs::write(path.join("metrics.jsonl"), "").unwrap();
    fs::write(path.join("config.toml"), CONFIG.replace("seed = 0", "seed = 1")).unwrap();
    assert_eq!(
        refusal(path),
        "already holds an unfinished run of another configuration: train.seed is 1 there and 0 here (config.toml, \
         metrics.jsonl)\nhint: choose another --output"
    );
    fs::write(
        path.join("config.toml"),
        "[data]\nroot = \"x\"\nshots = 1\n[train]\nepochs = 3\nseed = \"0\"\n",
    )
    .unwrap();
    assert_eq!(
        refusal(path),
        "already holds an unfinished run of another configuration: data.root is \"x\" there and \"data\" here, data.shots \
         is 1 there and 16 here, train.epochs is 3 there and 10 here, and 1 more (config.toml, metrics.jsonl)\nhint: choose \
         another --output"
    );
    // Keys that a version of the program does not have are no differences.
    fs::write(path.join("config.toml"), "[train]\nseed = 0\nolder = 1\n").unwrap();
    assert!(refusal(path).starts_with("already holds an unfinished run of this configuration"));
    fs::write(path.join("config.toml"), "[train").unwrap();
    assert_eq!(
        refusal(path),
        "already holds an unfinished run whose configuration cannot be read (config.toml, metrics.jsonl)\nhint: choose \
         another --output"
    );
    fs::remove_file(path.join("config.toml")).unwrap();
    assert_eq!(refusal(path), "already holds parts of a run (metrics.jsonl)\nhint: choose another --output");
    fs::write(path.join("result.json"), "").unwrap();
    assert_eq!(
        refusal(path),
        "already holds a finished run (metrics.jsonl, result.json)\nhint: choose another --output"
    );
}

#[test]
fn a_refusal_leaves_the_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    drop(named(folder.path()).unwrap());
    let other = CONFIG.replace("seed = 0", "seed = 1");
    fs::write(folder.path().join("config.toml"), &other).unwrap();
    let before = names(folder.path());
    refusal(folder.path());
    assert_eq!(names(folder.path()), before);
    assert_eq!(fs::read_to_string(folder.path().join("config.toml")).unwrap(), other);
}

#[test]
fn places_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let message = named(&file).unwrap_err().to_string();
    assert_eq!(message, format!("`{}` is not a folder\nhint: choose another --output", file.display()));
    let below = file.join("run");
    let message = named(&below).unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "cannot create the run folder `{}`: Not a directory (os error 20); a part of this path is a file\nhint: choose \
             another --output",
            below.display()
        )
    );
    // Not even root creates anything in /proc.
    let error = named(Path::new("/proc/lift")).unwrap_err();
    assert!(error.to_string().starts_with("cannot create the run folder `/proc/lift`: "), "{error}");
    assert!(error.is_wrong_input());
}

#[test]
fn an_abandoned_run_leaves_its_place_free() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    named(&path).unwrap().abandon();
    assert!(!path.exists());

    let again = named(&path).unwrap();
    fs::write(again.logs().join("rank-0.log"), "refused").unwrap();
    fs::write(again.metrics(), "").unwrap();
    again.abandon();
    assert_eq!(names(&path), set(&["logs", "run.lock"]));
    named(&path).unwrap().abandon();

    let default = default_under(parent.path()).unwrap();
    let first = default.path().to_path_buf();
    fs::write(default.logs().join("rank-0.log"), "refused").unwrap();
    default.abandon();
    assert_eq!(default_under(parent.path()).unwrap().path(), first);
}

#[test]
fn what_was_achieved_is_not_abandoned() {
    for achieved in ["metrics.jsonl", "checkpoints", "final.safetensors", "result.json"] {
        let folder = tempfile::tempdir().unwrap();
        let run = named(folder.path()).unwrap();
        fs::write(folder.path().join(achieved), "something").unwrap();
        run.abandon();
        assert!(folder.path().join("config.toml").exists(), "{achieved}");
        assert!(folder.path().join(achieved).exists());
    }
}

#[test]
fn a_foreign_folder_is_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    named(folder.path()).unwrap().abandon();
    assert_eq!(names(folder.path()), set(&["notes.txt", "run.lock"]));
}

#[test]
fn a_run_whose_folder_was_replaced_leaves_the_others_files_alone() {
    use crate::run::MetricsWriter;
    use crate::run::checkpoint::{Retention, Snapshot, Store};
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let first = named(&path).unwrap();
    let retention = Retention { keep: std::num::NonZeroUsize::MIN, best: false };
    let mut store = Store::open(&first, retention).unwrap();
    let snapshot = |step| Snapshot { step, tensors: Vec::new(), state: step };
    store.write(&snapshot(1), None).unwrap();
    let mut metrics = MetricsWriter::create(&first.metrics()).unwrap().under(Arc::clone(first.claim()));
    fs::rename(&path, parent.path().join("old")).unwrap();
    let second = named(&path).unwrap();
    let before = names(&path);

    assert!(store.write(&snapshot(2), None).unwrap_err().to_string().contains("no longer the folder"));
    assert!(store.discard_after(0).is_ok(), "there is nothing to remove under the old name");
    assert!(matches!(metrics.sync(), Err(RunFolderError::Lost { .. })));
    first.abandon();
    assert_eq!(names(&path), before);
    // The second run's own checkpoints are not the first's to remove.
    let mut theirs = Store::open(&second, retention).unwrap();
    theirs.write(&snapshot(9), None).unwrap();
    assert!(store.discard_after(0).is_err());
    assert_eq!(theirs.generations().unwrap(), [9]);
}
