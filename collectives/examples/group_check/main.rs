//! Checks a process group on real ranks, or drives it into a fault: the program behind `tests/process_groups.rs`.
//!
//!     mpirun -n 4 target/release/examples/group_check mpi check
//!     mpirun -n 4 target/release/examples/group_check nccl check|fault|stuck|barrier
//!
//! With the stand-in, `NCCL_RS_LIBRARY` and `NCCL_RS_CUDART` name `libnccl_stand_in.so`.

mod oracle;

use collectives::{CollectiveError, Control, NcclOptions, ProcessGroup, ReduceOp, World};
use std::io::Write;
use std::process::exit;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// For faults. What has to succeed gets more: the machine may have fewer cores than ranks.
const TIMEOUT: Duration = Duration::from_secs(2);
const LONG_TIMEOUT: Duration = Duration::from_mins(1);
/// Exit codes of a fault that was answered by an error, and of a process that was ended from outside.
const FAILED: i32 = 3;
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
    let group = group.unwrap_or_else(|error| leave(&error));
    let outcome = match mode.as_str() {
        "check" => check(&control, group.as_ref()),
        "barrier" => late_barrier(&world, group.as_ref()),
        _ => steps(&world, group.as_ref(), mode == "stuck"),
    };
    if let Err(error) = outcome {
        leave(&error.to_string());
    }
}

/// One write for a line: those of several ranks must not mix.
fn say(what: &str, text: &str) {
    let _ = std::io::stderr().write_all(format!("{what}: {text}\n").as_bytes());
}

fn options(patient: bool) -> NcclOptions {
    let on_stuck = |text: &str| {
        say("stuck", text);
        // SAFETY: ends the process without running anything else of it.
        unsafe { nix::libc::_exit(STUCK) }
    };
    let timeout = if patient { LONG_TIMEOUT } else { TIMEOUT };
    let (on_failure, on_stuck) = (Box::new(|text: &str| say("failure", text)), Box::new(on_stuck));
    NcclOptions { device: Device::Cpu, timeout, on_failure, on_stuck }
}

/// Says the error, leaves the other ranks time to say theirs, and ends without MPI.
fn leave(error: &str) -> ! {
    say("error", error);
    let seconds = std::env::var("GROUP_CHECK_LINGER").ok().and_then(|text| text.parse().ok());
    std::thread::sleep(Duration::from_secs(seconds.unwrap_or(2)));
    exit(FAILED)
}

/// Every operation on the group and on groups split from it.
fn check(control: &Control, group: &dyn ProcessGroup) -> Result<(), CollectiveError> {
    let mut compared = oracle::compare(group, &|rank| rank)?;
    let (rank, size) = (group.rank(), group.size());
    let node = group.split(rank / 2, rank)?;
    compared += oracle::compare(node.as_ref(), &|local| rank / 2 * 2 + local)?;
    // In the reverse order, to see that the key counts.
    let across = group.split(rank % 2, size - rank)?;
    let of_parity: Vec<usize> = (0..size).rev().filter(|other| other % 2 == rank % 2).collect();
    if group.backend() != "solo" {
        assert_eq!((across.rank(), across.size()), (place(&of_parity, rank), of_parity.len()));
        compared += oracle::compare(across.as_ref(), &|local| of_parity[local])?;
    }
    // Split from what was split.
    let pair = node.split(0, 5)?;
    compared += oracle::compare(pair.as_ref(), &|local| rank / 2 * 2 + local)?;
    drop((node, pair));
    refusals(group);
    group.barrier()?;
    group.barrier_within(LONG_TIMEOUT)?;
    control.barrier()?;
    if rank == 0 {
        println!("{} on {size} ranks: {compared} results are right", group.backend());
    }
    Ok(())
}

fn place(ranks: &[usize], rank: usize) -> usize {
    ranks.iter().take_while(|&&other| other != rank).count()
}

/// Tensors that cannot travel are refused alike by all groups that move any.
fn refusals(group: &dyn ProcessGroup) {
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

/// Steps of one sum each; `stuck` never comes back to the group after the third.
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

/// Rank 0 comes too late.
fn late_barrier(world: &World, group: &dyn ProcessGroup) -> Result<(), CollectiveError> {
    world.activity().set_step(12);
    if group.rank() == 0 {
        std::thread::sleep(Duration::from_secs(2));
    }
    group.barrier_within(Duration::from_millis(500))
}
