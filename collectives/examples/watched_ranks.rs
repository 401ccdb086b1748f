//! Ranks that monitor each other while one of them fails.
//!
//! ```sh
//! mpirun -n 3 target/release/examples/watched_ranks stuck 1
//! ```
//!
//! The first argument is the scenario, the second the rank that fails. Each rank prints `ready RANK PID` when it is
//! monitored, and `verdict on RANK: ...` when it receives a verdict.

use collectives::liveness::{Diagnosis, Liveness, LivenessOptions};
use collectives::{Activity, Control, ReduceOp, World};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::error::Error;
use std::io::Write;
use std::time::Duration;

const USAGE: &str = "watched_ranks wait|slow|stuck|wrong|finish|quit|stagger RANK [SILENCE_MS [TIMEOUT_MS]]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, chosen, rest @ ..] = arguments.as_slice() else { return Err(USAGE.into()) };
    let chosen: usize = chosen.parse()?;
    let milliseconds = |at: usize, default| rest.get(at).map_or(Ok(default), |text| text.parse());
    let (silence, timeout) = (milliseconds(0, 5000)?, milliseconds(1, 10_000)?);

    // SAFETY: no handler runs. The ranks ignore TERM, like programs that save before they end.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn)? };
    let level = tracing::Level::DEBUG;
    tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(std::io::stderr).init();
    let world = World::start()?;
    let (control, activity, rank) = (world.control()?, world.activity(), world.rank());
    if scenario == "stagger" {
        std::thread::sleep(Duration::from_millis(300 * rank as u64));
    }
    let on_verdict =
        Box::new(move |verdict: &Diagnosis| print_line(&format!("verdict on {rank}: {verdict}\n")));
    let silence = Duration::from_millis(silence);
    let liveness =
        Liveness::start(&control, activity, LivenessOptions { silence, on_verdict, ..Default::default() })?;
    print_line(&format!("ready {rank} {}\n", std::process::id()));

    activity.begin("training", Duration::from_millis(timeout));
    activity.set_step(17);
    run_scenario(scenario, rank == chosen, &control, activity)?;
    liveness.goodbye();
    Ok(())
}

fn run_scenario(
    scenario: &str,
    chosen: bool,
    control: &Control,
    activity: &Activity,
) -> Result<(), Box<dyn Error>> {
    match (scenario, chosen) {
        ("wait", true) => loop {
            work_briefly(activity);
        },
        ("stuck", true) => sleep_in_a_loop(),
        ("wrong", true) => control.barrier()?,
        ("slow", true) => (0..150).for_each(|_| work_briefly(activity)),
        ("wait" | "stuck" | "wrong", false) => control.all_reduce(&mut vec![1; 1 << 16], ReduceOp::Sum)?,
        ("finish", _) => std::thread::sleep(Duration::from_millis(1500 * control.rank() as u64)),
        // Ends without a goodbye.
        ("quit", true) => std::process::exit(7),
        ("slow" | "stagger" | "quit", _) => {}
        _ => return Err(USAGE.into()),
    }
    if scenario != "finish" {
        control.barrier()?;
    }
    Ok(())
}

/// Prints a line in one write, so that the lines of several ranks do not mix.
fn print_line(line: &str) {
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn work_briefly(activity: &Activity) {
    let _forward = activity.enter("forward");
    std::thread::sleep(Duration::from_millis(20));
}

#[inline(never)]
fn sleep_in_a_loop() {
    loop {
        std::thread::sleep(Duration::from_millis(20));
    }
}
