//! The logits of an evaluation, kept on request and gathered on rank 0 in the order of the list.

use crate::data::loader::Batch;
use crate::data::source::Split;
use crate::engine::calibrate::LogitsTable;
use crate::engine::failure::Failure;
use crate::engine::rank::Rank;
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

/// Bytes of a rank that are gathered at once: logits of large data sets do not fit into one message.
const AT_ONCE: usize = 16 << 20;

/// The logits of this rank's images, in the order of the list, without unreadable ones.
#[derive(Debug, Default)]
pub struct KeptLogits(RefCell<LogitsTable>);

impl KeptLogits {
    /// Keeps the logits of a batch, `[n, classes]`. Waits for the device.
    pub(super) fn keep(&self, split: &Split, batch: &Batch, logits: &Tensor) {
        let logits = logits.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
        let mut table = self.0.borrow_mut();
        table.classes = logits.size()[1] as usize;
        let start = table.logits.len();
        table.logits.resize(start + logits.numel(), 0.0);
        logits.copy_data(&mut table.logits[start..], logits.numel());
        table.labels.extend(&batch.labels);
        table.names.extend(batch.samples.iter().map(|&sample| split.name(sample as usize)));
    }

    /// The logits of all ranks, on rank 0; on other ranks an empty table. Collective.
    pub fn gathered(self, rank: &Rank) -> Result<LogitsTable, Failure> {
        let own = self.0.into_inner();
        let mut all = LogitsTable { classes: own.classes, ..LogitsTable::default() };
        let mut ranks = vec![Vec::new(); rank.world_size()];
        for_each_block(bytemuck::cast_slice(&own.logits), rank, |other, bytes| {
            let floats = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_ne_bytes(bytes));
            ranks[other].extend(floats);
        })?;
        all.logits = ranks.concat();
        let rest = serde_json::to_vec(&(own.classes, own.labels, own.names)).map_err(Failure::run)?;
        for bytes in rank.control.all_gather(&rest)? {
            let (classes, labels, names): (usize, Vec<i64>, Vec<String>) =
                serde_json::from_slice(&bytes).map_err(Failure::run)?;
            all.classes = all.classes.max(classes);
            all.labels.extend(labels);
            all.names.extend(names);
        }
        Ok(if rank.leads() { all } else { LogitsTable::default() })
    }
}

/// Gathers the bytes of all ranks in blocks, and gives them to rank 0.
fn for_each_block(own: &[u8], rank: &Rank, mut each: impl FnMut(usize, &[u8])) -> Result<(), Failure> {
    let mut most = [own.len().div_ceil(AT_ONCE) as i64];
    rank.control.all_reduce(&mut most, collectives::ReduceOp::Max)?;
    let mut blocks = own.chunks(AT_ONCE);
    for _ in 0..most[0] {
        let parts = rank.control.all_gather(blocks.next().unwrap_or_default())?;
        if rank.leads() {
            parts.iter().enumerate().for_each(|(other, bytes)| each(other, bytes));
        }
    }
    Ok(())
}
