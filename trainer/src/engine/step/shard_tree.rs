//! Sums over the shards of a batch that are bitwise independent of the number of ranks.
//!
//! A global batch is divided into a fixed number of shards, a power of two. The shards' results are added in one fixed
//! binary tree: neighbours first, then neighbours of neighbours. A rank adds the nodes whose shards are all its own;
//! these partial sums are gathered, and every rank adds them in the order of the tree.

use crate::data::order::shard::share;
use collectives::{CollectiveError, ProcessGroup};
use std::ops::Range;
use tch::{Kind, Tensor};

/// A node of the tree: the sum of the shards `first .. first + size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    first: u64,
    size: u64,
}

/// The shards and their distribution over ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardTree {
    shards: u64,
    world: u64,
}

impl ShardTree {
    /// `shards` is a power of two and at least `world`.
    pub fn new(shards: u64, world: u64) -> Self {
        debug_assert!(shards.is_power_of_two() && world <= shards);
        Self { shards, world }
    }

    /// The shards of a rank.
    pub fn of_rank(&self, rank: u64) -> Range<u64> {
        share(self.shards, self.world, rank)
    }

    /// The most shards that any rank has.
    pub fn most(&self) -> u64 {
        self.shards.div_ceil(self.world)
    }

    /// Adds one tensor per shard over all ranks; each rank passes those of its shards. The result is bitwise the same
    /// on any number of ranks.
    pub fn sum(&self, own: Vec<Tensor>, group: &dyn ProcessGroup) -> Result<Tensor, CollectiveError> {
        let rank = group.rank() as u64;
        let first = self.of_rank(rank).start;
        let leaves = own.into_iter().zip(first..).map(|(value, first)| (Node { first, size: 1 }, value));
        let own = add_neighbours(leaves.collect());
        let shape = own.first().map_or_else(Vec::new, |(_, value)| value.size());
        if self.world == 1 {
            return Ok(sum_of(own, &shape));
        }
        let most = (0..self.world).map(|rank| nodes(self.of_rank(rank)).len()).max().unwrap_or(1) as i64;
        let like = own.first().map_or((Kind::Float, tch::Device::Cpu), |(_, v)| (v.kind(), v.device()));
        let numel = shape.iter().product::<i64>();
        let sent = Tensor::zeros([most, numel], like);
        for (place, (_, value)) in own.iter().enumerate() {
            sent.get(place as i64).copy_(&value.reshape([-1]));
        }
        let mut all = Tensor::zeros([self.world as i64, most, numel], like);
        group.all_gather(&sent, &mut all)?;
        let of_rank = |rank: u64| {
            let rows = all.get(rank as i64);
            let value = move |(place, node): (usize, Node)| (node, rows.get(place as i64));
            nodes(self.of_rank(rank)).into_iter().enumerate().map(value)
        };
        let gathered = (0..self.world).flat_map(of_rank).collect();
        Ok(sum_of(add_neighbours(gathered), &shape))
    }
}

fn sum_of(nodes: Vec<(Node, Tensor)>, shape: &[i64]) -> Tensor {
    nodes
        .into_iter()
        .next()
        .map_or_else(|| Tensor::zeros(shape, tch::kind::FLOAT_CPU), |(_, v)| v.view(shape))
}

/// The largest nodes of the tree within a range of shards, in order.
fn nodes(range: Range<u64>) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for first in range {
        nodes.push(Node { first, size: 1 });
        while let [.., a, b] = nodes[..]
            && let Some(sum) = joined(a, b)
        {
            nodes.truncate(nodes.len() - 2);
            nodes.push(sum);
        }
    }
    nodes
}

/// The parent of two nodes, if they are its two children.
fn joined(a: Node, b: Node) -> Option<Node> {
    let siblings = a.size == b.size && a.first.is_multiple_of(2 * a.size) && b.first == a.first + a.size;
    siblings.then_some(Node { first: a.first, size: 2 * a.size })
}

/// Adds neighbours while the tree has a node for them.
fn add_neighbours(values: Vec<(Node, Tensor)>) -> Vec<(Node, Tensor)> {
    let mut stack: Vec<(Node, Tensor)> = Vec::new();
    for mut top in values {
        while let Some((node, _)) = stack.last()
            && let Some(parent) = joined(*node, top.0)
            && let Some((_, left)) = stack.pop()
        {
            top = (parent, left + top.1);
        }
        stack.push(top);
    }
    stack
}

#[cfg(test)]
mod tests {
    use super::*;
    use collectives::Solo;

    #[test]
    fn the_largest_nodes_are_aligned() {
        let of = |range| nodes(range).into_iter().map(|n| (n.first, n.size)).collect::<Vec<_>>();
        assert_eq!(of(0..8), [(0, 8)]);
        assert_eq!(of(0..3), [(0, 2), (2, 1)]);
        assert_eq!(of(3..6), [(3, 1), (4, 2)]);
        assert_eq!(of(2..2), []);
    }

    #[test]
    fn neighbours_are_added_first() {
        let values: Vec<f32> = vec![1e8, 1.0, -1e8, 3.0, 0.1, 0.2, 0.3, 0.4];
        let leaves = values.iter().map(|&v| Tensor::from_slice(&[v])).collect();
        let sum = ShardTree::new(8, 1).sum(leaves, &Solo).unwrap().double_value(&[0]) as f32;
        let v = &values;
        let expected = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
        assert_eq!(sum, expected);
    }

    /// The sum of the parts that several ranks would gather equals the sum of one rank.
    #[test]
    fn law_1_any_division_over_ranks_gives_the_same_bits() {
        let leaf = |i: u64| Tensor::from_slice(&[(i as f32 * 0.7).sin() * 10f32.powi(i as i32 % 7)]);
        let leaves = |range: Range<u64>| range.map(|i| (Node { first: i, size: 1 }, leaf(i))).collect();
        let alone = sum_of(add_neighbours(leaves(0..16)), &[1]);
        for world in 1..=16 {
            let tree = ShardTree::new(16, world);
            let parts: Vec<_> = (0..world).flat_map(|r| add_neighbours(leaves(tree.of_rank(r)))).collect();
            assert_eq!(sum_of(add_neighbours(parts), &[1]), alone, "{world} ranks");
        }
    }
}
