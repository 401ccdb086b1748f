//! Ranks that watch each other while one of them gets into trouble.
//!
//! ```sh
//! mpirun -n 3 target/release/examples/watched_ranks stuck 1
//! ```
//!
//! The first argument says what happens, the second to which rank. Each rank says `ready RANK PID` when it is
//! watched, and `verdict on RANK: ...` when it hears one.

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

    // SAFETY: no handler runs. Programs that save before they end do not die of TERM, so these do not either.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn)? };
    let level = tracing::Level::DEBUG;
    tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(std::io::stderr).init();
    let world = World::start()?;
    let (control, activity, rank) = (world.control()?, world.activity(), world.rank());
    if scenario == "stagger" {
        std::thread::sleep(Duration::from_millis(300 * rank as u64));
    }
    let on_verdict = Box::new(move |verdict: &Diagnosis| say(&format!("verdict on {rank}: {verdict}\n")));
    let silence = Duration::from_millis(silence);
    let liveness =
        Liveness::start(&control, activity, LivenessOptions { silence, on_verdict, ..Default::default() })?;
    say(&format!("ready {rank} {}\n", std::process::id()));

    activity.begin("training", Duration::from_millis(timeout));
    activity.set_step(17);
    play(scenario, rank == chosen, &control, activity)?;
    liveness.goodbye();
    Ok(())
}

fn play(scenario: &str, chosen: bool, control: &Control, activity: &Activity) -> Result<(), Box<dyn Error>> {
    match (scenario, chosen) {
        ("wait", true) => loop {
            works(activity);
        },
        ("stuck", true) => dozes_in_a_loop(),
        ("wrong", true) => control.barrier()?,
        ("slow", true) => (0..150).for_each(|_| works(activity)),
        ("wait" | "stuck" | "wrong", false) => control.all_reduce(&mut vec![1; 1 << 16], ReduceOp::Sum)?,
        ("finish", _) => std::thread::sleep(Duration::from_millis(1500 * control.rank() as u64)),
        // Ends as it should not: without a goodbye.
        ("quit", true) => std::process::exit(7),
        ("slow" | "stagger" | "quit", _) => {}
        _ => return Err(USAGE.into()),
    }
    if scenario != "finish" {
        control.barrier()?;
    }
    Ok(())
}

/// In one piece, for the lines of several ranks go to one place.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn works(activity: &Activity) {
    let _forward = activity.enter("forward");
    std::thread::sleep(Duration::from_millis(20));
}

#[inline(never)]
fn dozes_in_a_loop() {
    loop {
        std::thread::sleep(Duration::from_millis(20));
    }
}
