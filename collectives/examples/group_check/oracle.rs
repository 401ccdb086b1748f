//! Compares the result of every operation with one that each rank computes alone from the inputs of all ranks.

use collectives::{CollectiveError, ProcessGroup, ReduceOp};
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 4] = [Kind::Float, Kind::Double, Kind::Int64, Kind::BFloat16];
/// An empty tensor, one element, fewer elements than ranks, and a prime length.
const LENGTHS: [i64; 4] = [0, 1, 3, 1009];
/// A tensor that is longer than a chunk of the stand-in, for one kind.
const LONG: (Kind, i64) = (Kind::Float, 70_001);

/// Compares every operation, kind and length, and returns the number of comparisons. `world_rank` maps a rank of the
/// group to its rank in the world.
pub fn compare(
    group: &dyn ProcessGroup,
    world_rank: &dyn Fn(usize) -> usize,
) -> Result<usize, CollectiveError> {
    let mut compared = 0;
    let short = KINDS.into_iter().flat_map(|kind| LENGTHS.map(|length| (kind, length)));
    for (kind, length) in short.chain([LONG]) {
        let inputs = |length| {
            let ranks = (0..group.size()).map(|member| input(world_rank(member), length, kind));
            ranks.collect::<Vec<_>>()
        };
        compared += check_all_reduce(group, &inputs(length))?;
        compared += check_broadcast_and_all_gather(group, &inputs(length))?;
        compared += check_reduce_scatter(group, &inputs(length * group.size() as i64), length)?;
    }
    Ok(compared)
}

/// Small integers that depend on rank and index: sums are exact in float, and in bfloat16 after one rounding.
fn input(rank: usize, length: i64, kind: Kind) -> Tensor {
    let indices = Tensor::arange(length, (Kind::Int64, Device::Cpu));
    ((indices * 31 + (rank as i64 + 1) * 7919).remainder(257) - 128).to_kind(kind)
}

fn expected_reduction(inputs: &[Tensor], op: ReduceOp) -> Tensor {
    let wide = if inputs[0].kind() == Kind::BFloat16 { Kind::Float } else { inputs[0].kind() };
    let stacked = Tensor::stack(inputs, 0).to_kind(wide);
    let expected_reduction = match op {
        ReduceOp::Sum => stacked.sum_dim_intlist(0, false, wide),
        ReduceOp::Max => stacked.amax(0, false),
        ReduceOp::Min => stacked.amin(0, false),
    };
    expected_reduction.to_kind(inputs[0].kind())
}

fn assert_equal(what: &str, group: &dyn ProcessGroup, found: &Tensor, expected: &Tensor) {
    assert!(
        found.equal(expected),
        "rank {} of {}: {what} of {} x {:?} is wrong",
        group.rank(),
        group.size(),
        expected.numel(),
        expected.kind()
    );
}

fn check_all_reduce(group: &dyn ProcessGroup, inputs: &[Tensor]) -> Result<usize, CollectiveError> {
    for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min] {
        let mut tensor = inputs[group.rank()].copy();
        group.all_reduce(&mut tensor, op)?;
        assert_equal("all_reduce", group, &tensor, &expected_reduction(inputs, op));
    }
    Ok(3)
}

fn check_broadcast_and_all_gather(
    group: &dyn ProcessGroup,
    inputs: &[Tensor],
) -> Result<usize, CollectiveError> {
    for (root, expected) in inputs.iter().enumerate() {
        let mut tensor = inputs[group.rank()].copy();
        group.broadcast(&mut tensor, root)?;
        assert_equal("broadcast", group, &tensor, expected);
    }
    let expected = Tensor::cat(inputs, 0);
    let mut output = expected.zeros_like();
    group.all_gather(&inputs[group.rank()], &mut output)?;
    assert_equal("all_gather", group, &output, &expected);
    Ok(inputs.len() + 1)
}

fn check_reduce_scatter(
    group: &dyn ProcessGroup,
    inputs: &[Tensor],
    length: i64,
) -> Result<usize, CollectiveError> {
    let own = |tensor: &Tensor| tensor.narrow(0, group.rank() as i64 * length, length);
    let expected = own(&expected_reduction(inputs, ReduceOp::Sum));
    let mut output = expected.zeros_like();
    group.reduce_scatter(&inputs[group.rank()], &mut output)?;
    assert_equal("reduce_scatter", group, &output, &expected);
    Ok(1)
}
