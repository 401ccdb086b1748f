//! Exchange of figures between ranks.

use crate::engine::failure::Failure;
use collectives::Control;

/// The numbers of every rank, by rank. Their count may differ between ranks.
pub(crate) fn of_all_ranks(control: &Control, own: &[f64]) -> Result<Vec<Vec<f64>>, Failure> {
    let bytes: Vec<u8> = own.iter().flat_map(|number| number.to_le_bytes()).collect();
    let decode = |bytes: Vec<u8>| {
        let (numbers, _) = bytes.as_chunks::<8>();
        numbers.iter().map(|number| f64::from_le_bytes(*number)).collect()
    };
    Ok(control.all_gather(&bytes)?.into_iter().map(decode).collect())
}

/// The greatest number of all ranks, on all ranks.
pub(crate) fn greatest(control: &Control, own: f64) -> Result<f64, Failure> {
    let all = of_all_ranks(control, &[own])?;
    Ok(all.into_iter().flatten().fold(f64::NEG_INFINITY, f64::max))
}
