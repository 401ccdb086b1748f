//! Shell scripts.

use std::process::Command;
use tests::launched::repository;

#[test]
fn shell_scripts_pass_shellcheck() {
    let scripts = [
        "slurm/lift.sbatch",
        "slurm/lift-array.sbatch",
        "slurm/lift-container.sbatch",
        "tests/slurm/with-slurm.sh",
        "tests/fakes/trainer.sh",
        "tests/fakes/slurm.sh",
        "scripts/slurm_chaos.sh",
        "packaging/build.sh",
        "packaging/bundle.sh",
        "packaging/link.sh",
        "packaging/test.sh",
    ];
    let Ok(output) = Command::new("shellcheck").args(scripts).current_dir(repository()).output() else {
        eprintln!("skipped: shell_scripts_pass_shellcheck (shellcheck is not installed)");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
