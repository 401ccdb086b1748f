/// How the values of the ranks are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceOp {
    /// Sum over ranks.
    Sum,
    /// Greatest value of any rank.
    Max,
    /// Least value of any rank.
    Min,
}
