//! Checks a process group on real ranks, or provokes a fault. `tests/process_groups.rs` runs this program.
//!
//!     mpirun -n 4 target/release/examples/group_check mpi check
//!     mpirun -n 4 target/release/examples/group_check nccl check|fault|stuck|barrier
//!
//! To use the stand-in, set `NCCL_RS_LIBRARY` and `NCCL_RS_CUDART` to the path of `libnccl_stand_in.so`.

mod oracle;

use collectives::{CollectiveError, Control, NcclOptions, ProcessGroup, ReduceOp, World};
use std::io::Write;
use std::process::exit;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Timeout of calls under a fault.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of calls that must succeed, on a machine that may have fewer cores than ranks.
const LONG_TIMEOUT: Duration = Duration::from_mins(1);
/// Exit code after an error of a call.
const FAILED: i32 = 3;
/// Exit code after `on_stuck`.
const STUCK: i32 = 4;

fn main() {
    tch::set_num_threads(1);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, mode] = &arguments[..] else {
        eprintln!("usage: group_check mpi|nccl check|fault|stuck|barrier");
        exit(2);
    };
    let world = World::start().unwrap_or_else(|error| panic!("{error}"));
    let control = world.control().unwrap_or_else(|error| panic!("{error}"));
    let group = match backend.as_str() {
        "mpi" => world.process_group().map_err(|error| error.to_string()),
        _ => world.nccl_group(&control, options(mode == "check")).map_err(|error| error.to_string()),
    };
    let group = group.unwrap_or_else(|error| exit_with(&error));
    let outcome = match mode.as_str() {
        "check" => check(&control, group.as_ref()),
        "barrier" => delayed_barrier(&world, group.as_ref()),
        _ => steps(&world, group.as_ref(), mode == "stuck"),
    };
    if let Err(error) = outcome {
        exit_with(&error.to_string());
    }
}

/// Prints a line in one write, so that the lines of several ranks do not mix.
fn print_line(what: &str, text: &str) {
    let _ = std::io::stderr().write_all(format!("{what}: {text}\n").as_bytes());
}

fn options(long_timeout: bool) -> NcclOptions {
    let on_stuck = |text: &str| {
        print_line("stuck", text);
        // SAFETY: the call takes an integer and does not return.
        unsafe { nix::libc::_exit(STUCK) }
    };
    let timeout = if long_timeout { LONG_TIMEOUT } else { TIMEOUT };
    let (on_failure, on_stuck) = (Box::new(|text: &str| print_line("failure", text)), Box::new(on_stuck));
    NcclOptions { device: Device::Cpu, timeout, on_failure, on_stuck }
}

/// Prints the error, waits until the other ranks have printed theirs, and exits without finalising MPI.
fn exit_with(error: &str) -> ! {
    print_line("error", error);
    let seconds = std::env::var("GROUP_CHECK_LINGER").ok().and_then(|text| text.parse().ok());
    std::thread::sleep(Duration::from_secs(seconds.unwrap_or(2)));
    exit(FAILED)
}

/// Checks every operation on the group and on groups split from it.
fn check(control: &Control, group: &dyn ProcessGroup) -> Result<(), CollectiveError> {
    let mut compared = oracle::compare(group, &|rank| rank)?;
    let (rank, size) = (group.rank(), group.size());
    let pairs = group.split(rank / 2, rank)?;
    compared += oracle::compare(pairs.as_ref(), &|local| rank / 2 * 2 + local)?;
    // Reverses the order, to check that the key is used.
    let parity = group.split(rank % 2, size - rank)?;
    let same_parity: Vec<usize> = (0..size).rev().filter(|other| other % 2 == rank % 2).collect();
    if group.backend() != "solo" {
        assert_eq!((parity.rank(), parity.size()), (position(&same_parity, rank), same_parity.len()));
        compared += oracle::compare(parity.as_ref(), &|local| same_parity[local])?;
    }
    // Splits a split group again.
    let pair_again = pairs.split(0, 5)?;
    compared += oracle::compare(pair_again.as_ref(), &|local| rank / 2 * 2 + local)?;
    drop((pairs, pair_again));
    check_rejected_tensors(group);
    group.barrier()?;
    group.barrier_within(LONG_TIMEOUT)?;
    control.barrier()?;
    if rank == 0 {
        println!("{} on {size} ranks: {compared} results are right", group.backend());
    }
    Ok(())
}

fn position(ranks: &[usize], rank: usize) -> usize {
    ranks.iter().take_while(|&&other| other != rank).count()
}

/// Checks that groups of several ranks reject unsupported tensors with the same errors.
fn check_rejected_tensors(group: &dyn ProcessGroup) {
    if group.backend() == "solo" {
        return;
    }
    let rank = group.rank();
    let text = |mut tensor: Tensor| {
        group
            .all_reduce(&mut tensor, ReduceOp::Sum)
            .map_or_else(|error| error.to_string(), |()| String::new())
    };
    assert_eq!(
        text(Tensor::zeros([2], (Kind::Int, Device::Cpu))),
        format!("rank {rank}: all_reduce needs kind Float, Double, Int64, BFloat16 or Uint8, found Int")
    );
    assert_eq!(
        text(Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).tr()),
        format!("rank {rank}: all_reduce needs a contiguous tensor, found one with strides [1, 3]")
    );
}

/// Runs steps of one all-reduce each. With `stuck`, the program makes no call after the third step.
fn steps(world: &World, group: &dyn ProcessGroup, stuck: bool) -> Result<(), CollectiveError> {
    let begin = Instant::now();
    for step in 0..5 {
        world.activity().set_step(step);
        let mut sum = Tensor::from(1f32).view(1);
        group.all_reduce(&mut sum, ReduceOp::Sum)?;
        assert_eq!(sum.double_value(&[0]), group.size() as f64);
        if stuck && step == 2 {
            std::thread::sleep(Duration::from_mins(10));
        }
    }
    println!("rank {}: 5 steps in {} ms", group.rank(), begin.elapsed().as_millis());
    Ok(())
}

/// Rank 0 reaches the barrier after the timeout.
fn delayed_barrier(world: &World, group: &dyn ProcessGroup) -> Result<(), CollectiveError> {
    world.activity().set_step(12);
    if group.rank() == 0 {
        std::thread::sleep(Duration::from_secs(2));
    }
    group.barrier_within(Duration::from_millis(500))
}
