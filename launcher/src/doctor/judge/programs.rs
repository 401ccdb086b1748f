//! The trainer, libtorch and MPI.

use super::DoctorFinding;
use crate::doctor::facts::Facts;
use crate::doctor::mpi::{MpiIdentity, identify};
use crate::doctor::trainer::TrainerFacts;
use protocol::probe::CudaReport;
use std::path::Path;

pub(super) fn trainer(facts: &TrainerFacts) -> Vec<DoctorFinding> {
    const AREA: &str = "trainer";
    if let Some(reason) = &facts.absent {
        return vec![DoctorFinding::error(
            AREA,
            reason,
            "build it with `make build`, or set LIFT_TRAINER to its path",
        )];
    }
    let path = facts.path.as_deref().unwrap_or(Path::new("lift-trainer")).display();
    if !facts.missing_libraries.is_empty() {
        let names = facts.missing_libraries.join(", ");
        return vec![DoctorFinding::error(
            AREA,
            format!("`{path}` does not load, because these libraries are not found: {names}"),
            remedies(&facts.missing_libraries),
        )];
    }
    let failure = facts.failure.as_deref().unwrap_or("reports nothing");
    match &facts.report.version {
        None if facts.timed_out => vec![DoctorFinding::warning(
            AREA,
            format!("`{path}` {failure}, so nothing is known about its libraries"),
            "repeat the command: from a network file system the first start is slow",
        )],
        // The exit code for wrong input: it does not know the command.
        None if facts.exit_code.is_none_or(|code| code != 2 && code != 0) => vec![DoctorFinding::error(
            AREA,
            format!("`{path}` does not run: {failure}"),
            "run `lift-trainer --version` to see its error; build it on this machine with `make build`",
        )],
        None => vec![other_version(
            AREA,
            format!("`{path}` is of another version: it cannot report its libraries"),
        )],
        Some(version) => known(AREA, facts, &path.to_string(), version),
    }
}

/// A trainer that has reported its version.
fn known(area: &'static str, facts: &TrainerFacts, path: &str, version: &str) -> Vec<DoctorFinding> {
    let own = env!("CARGO_PKG_VERSION");
    let mut found = vec![if version == own {
        DoctorFinding::ok(area, format!("{version}, {path}"))
    } else {
        other_version(area, format!("`{path}` is version {version}, and lift is version {own}"))
    }];
    if facts.timed_out {
        found.push(DoctorFinding::warning(
            area,
            format!("its report {}", facts.failure.as_deref().unwrap_or("is not complete")),
            "repeat the command: CUDA is slow to load the first time; see whether `nvidia-smi` answers",
        ));
    } else if let Some(failure) = &facts.failure {
        found.push(DoctorFinding::error(
            area,
            format!("its report failed: {failure}"),
            "run `lift-trainer probe` to see where it fails",
        ));
    }
    found
}

fn other_version(area: &'static str, text: String) -> DoctorFinding {
    DoctorFinding::warning(area, text, "install both from the same build (`make build`), or set LIFT_TRAINER")
}

/// What to do about missing libraries, each remedy once.
fn remedies(libraries: &[String]) -> String {
    let mut all: Vec<&str> = Vec::new();
    for library in libraries {
        let remedy = remedy(library);
        if !all.contains(&remedy) {
            all.push(remedy);
        }
    }
    all.join("; ")
}

fn remedy(library: &str) -> &'static str {
    let is_one_of = |names: &[&str]| names.iter().any(|name| library.starts_with(name));
    if is_one_of(&["libmpi", "libopen-", "libpmpi"]) {
        "load the MPI module that the trainer was built with, or install that MPI (`make setup`)"
    } else if is_one_of(&["libtorch", "libc10", "libgomp"]) {
        "install libtorch (`make setup`), or add its `lib` folder to LD_LIBRARY_PATH"
    } else if is_one_of(&["libcu", "libnv"]) {
        "install the CUDA libraries of libtorch (`make setup`), or load the CUDA module"
    } else {
        "install the packages of these libraries, or add their folder to LD_LIBRARY_PATH"
    }
}

pub(super) fn libtorch(facts: &Facts) -> Option<DoctorFinding> {
    const AREA: &str = "libtorch";
    let report = &facts.trainer.report;
    let torch = report.libtorch.as_ref()?;
    let version = report.libtorch_version.as_deref().unwrap_or("unknown version");
    let build = match &report.cuda {
        _ if !torch.has_cuda_part => "CPU build".to_owned(),
        Some(CudaReport { runtime: Some(cuda), .. }) => format!("CUDA {cuda}"),
        Some(_) => "CUDA build, of which only the CPU part loads".to_owned(),
        None => "CUDA build".to_owned(),
    };
    let place = torch.path.as_ref().map(|path| format!(", {}", path.display())).unwrap_or_default();
    let text = format!("{version}, {build}{place}");
    if !torch.has_cuda_part && !facts.gpus.devices.is_empty() {
        return Some(DoctorFinding::warning(
            AREA,
            format!("{text}: runs do not use the GPUs"),
            "install a CUDA build of torch 2.11 with pip, or run `LIFT_CUDA=1 make setup build` in the sources",
        ));
    }
    Some(DoctorFinding::ok(AREA, text))
}

/// `mpirun`, compared with the library of the trainer.
pub(super) fn mpi(facts: &Facts) -> DoctorFinding {
    const AREA: &str = "mpi";
    let library = facts.trainer.report.mpi.as_ref();
    let linked = library.and_then(|library| identify(&library.version));
    let links = linked.as_ref().map(|linked| format!("; the trainer is linked with {}", named(linked)));
    let links = links.unwrap_or_default();
    let install = linked.as_ref().map_or("MPI".to_owned(), named);
    let Some(mpirun) = facts.mpi.mpirun.as_ref() else {
        return DoctorFinding::warning(
            AREA,
            format!("there is no `mpirun` on PATH, so `lift run` starts one rank only{links}"),
            format!("load the module of {install}, or install it (`make setup`)"),
        );
    };
    let path = mpirun.display();
    if let Some(failure) = &facts.mpi.failure {
        return DoctorFinding::warning(
            AREA,
            format!("`{path}` does not run: {failure}"),
            format!("load the module of {install}, or install it (`make setup`)"),
        );
    }
    let Some(own) = facts.mpi.identity.as_ref() else {
        return DoctorFinding::warning(
            AREA,
            format!("`{path}` is of an unknown implementation{links}"),
            "see that it belongs to the MPI library of the trainer: other ranks would be runs of their own",
        );
    };
    let text = format!("{}, {path}{links}", named(own));
    match &linked {
        Some(linked) if linked.implementation != own.implementation => DoctorFinding::warning(
            AREA,
            format!("{text}: several ranks cannot start"),
            format!(
                "put the `mpirun` of {} first on PATH, or build the trainer with {}",
                named(linked),
                named(own)
            ),
        ),
        Some(linked) if linked.version != own.version => DoctorFinding::warning(
            AREA,
            format!("{text}: several ranks may not start"),
            format!("put the `mpirun` of {} first on PATH", named(linked)),
        ),
        _ => DoctorFinding::ok(AREA, text),
    }
}

fn named(mpi: &MpiIdentity) -> String {
    format!("{} {}", mpi.implementation, mpi.version).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::levels;
    use super::*;
    use crate::doctor::gpus::GpuFact;
    use crate::doctor::mpi::MpiFacts;
    use protocol::probe::{LibraryReport, LibtorchReport, TrainerReport};

    fn good() -> TrainerFacts {
        let mut facts = TrainerFacts {
            path: Some("/b/lift-trainer".into()),
            exit_code: Some(0),
            ..TrainerFacts::default()
        };
        facts.report.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        facts
    }

    /// A trainer that ends without a report.
    fn silent(failure: &str, exit_code: Option<i32>) -> TrainerFacts {
        TrainerFacts { failure: Some(failure.into()), exit_code, report: TrainerReport::default(), ..good() }
    }

    #[test]
    fn a_trainer_that_loads_and_fits_is_fine() {
        let expected = format!("{}, /b/lift-trainer", env!("CARGO_PKG_VERSION"));
        assert_eq!(trainer(&good()), [DoctorFinding::ok("trainer", expected)]);
    }

    #[test]
    fn missing_libraries_are_named_with_the_remedy_of_each() {
        let missing_libraries = ["libmpi.so.40", "libtorch_cpu.so", "libc10.so"].map(str::to_owned).to_vec();
        let found = trainer(&TrainerFacts { missing_libraries, ..silent("error while loading", Some(127)) });
        assert_eq!(levels(&found), ["trainer error"]);
        assert!(found[0].text.ends_with("are not found: libmpi.so.40, libtorch_cpu.so, libc10.so"));
        let hint = found[0].hint.as_ref().unwrap();
        assert!(hint.starts_with("load the MPI module") && hint.contains("; install libtorch"), "{hint}");
        assert_eq!(hint.matches("libtorch").count(), 1);
    }

    #[test]
    fn a_trainer_that_does_not_run_differs_from_one_of_another_version() {
        let found = trainer(&silent("was ended by the signal SIGILL", None));
        assert_eq!(levels(&found), ["trainer error"]);
        assert!(found[0].text.ends_with("does not run: was ended by the signal SIGILL"), "{}", found[0].text);
        assert_eq!(levels(&trainer(&silent("unrecognized subcommand", Some(2)))), ["trainer warning"]);
        let mut older = good();
        older.report.version = Some("0.0.9".into());
        assert!(trainer(&older)[0].text.contains("is version 0.0.9, and lift is version "));
        let absent = TrainerFacts { absent: Some("`x` does not exist".into()), ..TrainerFacts::default() };
        assert_eq!(levels(&trainer(&absent)), ["trainer error"]);
    }

    #[test]
    fn a_slow_report_is_a_warning_and_a_crash_in_it_is_an_error() {
        let slow = TrainerFacts {
            timed_out: true,
            exit_code: None,
            failure: Some("did not answer within 4 s".into()),
            ..good()
        };
        assert_eq!(levels(&trainer(&slow)), ["trainer ok", "trainer warning"]);
        let crash = TrainerFacts { timed_out: false, failure: Some("SIGSEGV".into()), ..slow.clone() };
        assert_eq!(levels(&trainer(&crash)), ["trainer ok", "trainer error"]);
        let nothing = TrainerFacts { report: TrainerReport::default(), ..slow };
        assert_eq!(levels(&trainer(&nothing)), ["trainer warning"]);
    }

    #[test]
    fn a_cpu_build_beside_gpus_is_a_warning() {
        let mut facts = Facts { trainer: good(), ..Facts::default() };
        assert_eq!(libtorch(&facts), None);
        let path = Some("/t/libtorch_cpu.so".into());
        facts.trainer.report.libtorch = Some(LibtorchReport { path, has_cuda_part: false });
        facts.trainer.report.libtorch_version = Some("2.11.0".into());
        let expected = "2.11.0, CPU build, /t/libtorch_cpu.so";
        assert_eq!(libtorch(&facts), Some(DoctorFinding::ok("libtorch", expected)));
        let mut with_cuda = facts.clone();
        with_cuda.trainer.report.libtorch = Some(LibtorchReport { path: None, has_cuda_part: true });
        assert_eq!(libtorch(&with_cuda).unwrap().text, "2.11.0, CUDA build");
        with_cuda.trainer.report.cuda = Some(CudaReport::default());
        assert_eq!(
            libtorch(&with_cuda).unwrap().text,
            "2.11.0, CUDA build, of which only the CPU part loads"
        );
        facts.gpus.devices = vec![GpuFact::default()];
        assert_eq!(levels(&libtorch(&facts)), ["libtorch warning"]);
    }

    #[test]
    fn mpirun_has_to_fit_the_library() {
        let facts = |mpirun: Option<&str>, library: &str| {
            let identity = mpirun.and_then(identify);
            let mpi =
                MpiFacts { mpirun: mpirun.map(|_| "/m/mpirun".into()), identity, ..MpiFacts::default() };
            let mut facts = Facts { mpi, trainer: good(), ..Facts::default() };
            facts.trainer.report.mpi = Some(LibraryReport { path: None, version: library.into() });
            mpi_of(&facts)
        };
        let ours = "Open MPI v4.1.4, package: x";
        let fits = facts(Some("mpirun (Open MPI) 4.1.4"), ours);
        assert_eq!(fits, "ok: Open MPI 4.1.4, /m/mpirun; the trainer is linked with Open MPI 4.1.4");
        let other = facts(Some("HYDRA build details:\n Version: 4.0.2"), ours);
        assert!(other.starts_with("warning: MPICH 4.0.2, ") && other.ends_with("several ranks cannot start"));
        assert!(facts(Some("mpirun (Open MPI) 5.0.3"), ours).ends_with("several ranks may not start"));
        assert!(facts(None, ours).starts_with("warning: there is no `mpirun` on PATH"));
        assert!(facts(Some("something else"), ours).contains("is of an unknown implementation"));
    }

    fn mpi_of(facts: &Facts) -> String {
        let found = mpi(facts);
        format!("{}: {}", found.level.word(), found.text)
    }
}
