//! Gathers tensors that are laid out as the flat buffer, if each rank has only some of their rows.

use crate::data::order::shard::share;
use crate::model::trainables::{RowRange, Trainables};
use collectives::{CollectiveError, ProcessGroup};
use tch::Tensor;

/// Names and unsharded values of the trainable tensors in `flat`. Collective.
pub fn whole_tensors(
    trainables: &Trainables,
    flat: &Tensor,
    group: &dyn ProcessGroup,
) -> Result<Vec<(String, Tensor)>, CollectiveError> {
    let mut tensors = Vec::new();
    for (name, range, shape, rows) in trainables.layout() {
        let own = flat.narrow(0, range.start, range.end - range.start).view(shape);
        let whole = match rows {
            None => own,
            Some(rows) => join(&own, rows, group)?,
        };
        tensors.push((name.to_owned(), whole));
    }
    Ok(tensors)
}

/// Each rank in turn broadcasts its rows.
fn join(own: &Tensor, rows: RowRange, group: &dyn ProcessGroup) -> Result<Tensor, CollectiveError> {
    let mut parts = Vec::with_capacity(group.size());
    for root in 0..group.size() {
        let range = share(rows.total as u64, group.size() as u64, root as u64);
        let mut shape = own.size();
        shape[0] = (range.end - range.start) as i64;
        let mut part = if root == group.rank() {
            own.detach().copy()
        } else {
            Tensor::zeros(shape.as_slice(), (own.kind(), own.device()))
        };
        group.broadcast(&mut part, root)?;
        parts.push(part);
    }
    Ok(Tensor::cat(&parts, 0))
}
