//! What every operation should give, computed on one rank from what all ranks put in.

use collectives::{CollectiveError, ProcessGroup, ReduceOp};
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 4] = [Kind::Float, Kind::Double, Kind::Int64, Kind::BFloat16];
/// Empty, one, fewer than ranks, a size that no number of ranks divides.
const LENGTHS: [i64; 4] = [0, 1, 3, 1009];
/// More than one chunk of the stand-in, for one kind.
const LONG: (Kind, i64) = (Kind::Float, 70_001);

/// Compares every operation, kind and length; `world_rank` tells which rank of the world a member is.
/// Answers how many results were compared.
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
        compared += reductions(group, &inputs(length))?;
        compared += copies(group, &inputs(length))?;
        compared += scattered(group, &inputs(length * group.size() as i64), length)?;
    }
    Ok(compared)
}

/// Small whole numbers that differ by rank and place: sums are exact in float, and in bfloat16 after one rounding.
fn input(rank: usize, length: i64, kind: Kind) -> Tensor {
    let places = Tensor::arange(length, (Kind::Int64, Device::Cpu));
    ((places * 31 + (rank as i64 + 1) * 7919).remainder(257) - 128).to_kind(kind)
}

fn combined(inputs: &[Tensor], op: ReduceOp) -> Tensor {
    let wide = if inputs[0].kind() == Kind::BFloat16 { Kind::Float } else { inputs[0].kind() };
    let stacked = Tensor::stack(inputs, 0).to_kind(wide);
    let combined = match op {
        ReduceOp::Sum => stacked.sum_dim_intlist(0, false, wide),
        ReduceOp::Max => stacked.amax(0, false),
        ReduceOp::Min => stacked.amin(0, false),
    };
    combined.to_kind(inputs[0].kind())
}

fn expect(what: &str, group: &dyn ProcessGroup, found: &Tensor, expected: &Tensor) {
    assert!(
        found.equal(expected),
        "rank {} of {}: {what} of {} x {:?} is wrong",
        group.rank(),
        group.size(),
        expected.numel(),
        expected.kind()
    );
}

fn reductions(group: &dyn ProcessGroup, inputs: &[Tensor]) -> Result<usize, CollectiveError> {
    for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min] {
        let mut tensor = inputs[group.rank()].copy();
        group.all_reduce(&mut tensor, op)?;
        expect("all_reduce", group, &tensor, &combined(inputs, op));
    }
    Ok(3)
}

fn copies(group: &dyn ProcessGroup, inputs: &[Tensor]) -> Result<usize, CollectiveError> {
    for (root, expected) in inputs.iter().enumerate() {
        let mut tensor = inputs[group.rank()].copy();
        group.broadcast(&mut tensor, root)?;
        expect("broadcast", group, &tensor, expected);
    }
    let expected = Tensor::cat(inputs, 0);
    let mut output = expected.zeros_like();
    group.all_gather(&inputs[group.rank()], &mut output)?;
    expect("all_gather", group, &output, &expected);
    Ok(inputs.len() + 1)
}

fn scattered(group: &dyn ProcessGroup, inputs: &[Tensor], length: i64) -> Result<usize, CollectiveError> {
    let own = |tensor: &Tensor| tensor.narrow(0, group.rank() as i64 * length, length);
    let expected = own(&combined(inputs, ReduceOp::Sum));
    let mut output = expected.zeros_like();
    group.reduce_scatter(&inputs[group.rank()], &mut output)?;
    expect("reduce_scatter", group, &output, &expected);
    Ok(1)
}
