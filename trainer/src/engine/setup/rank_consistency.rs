//! Check that all ranks have the same program, configuration, data and weights as rank 0. The error names the first
//! rank that differs and the first difference.

use crate::config::Resolved;
use crate::data::source::{ContentSample, DataSet, Split};
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::backbone::BackboneFile;
use protocol::numbers::hex;
use sha2::{Digest, Sha256};
use std::io;

/// Checks that all ranks run the same program.
pub fn same_program(rank: &Rank) -> Result<(), Failure> {
    if rank.world_size() == 1 {
        return Ok(());
    }
    let hash = agreed(&rank.control, || {
        program_hash().map_err(|error| Failure::run(format!("cannot read this program's own file: {error}")))
    })?;
    let Some(other) = first_other(rank, &hash)? else { return Ok(()) };
    let version = format!("{} ({})", env!("CARGO_PKG_VERSION"), short(&hash));
    let (ours, theirs) = two_texts(rank, &version, other)?;
    refuse(&format!(
        "rank {other} runs another program than rank 0: lift-trainer {theirs}, on rank 0 {ours}\nhint: install the same build on every host"
    ))
}

/// Checks that all ranks have the same configuration.
pub fn same_configuration(rank: &Rank, resolved: &Resolved) -> Result<(), Failure> {
    let Some(other) = first_other(rank, resolved.hash().as_bytes())? else { return Ok(()) };
    let (ours, theirs) = two_texts(rank, &resolved.to_toml(), other)?;
    let read = |text: &str| Resolved::from_run_folder(text).map_err(Failure::run);
    let difference = match read(&ours)?.diff(&read(&theirs)?).first() {
        Some(first) => format!(": {} is {} there and {} on rank 0", first.key, first.right, first.left),
        None => String::new(),
    };
    refuse(&format!(
        "rank {other} has another configuration than rank 0{difference}\nhint: start all ranks with the same arguments and files"
    ))
}

/// Checks that the data sets of all ranks have the same images, labels and classes, and the same files behind the
/// names; `fingerprint` and `sample` are those of the data set.
pub fn same_data(
    rank: &Rank,
    data: &DataSet,
    fingerprint: &str,
    sample: &ContentSample,
) -> Result<(), Failure> {
    let Some(other) = first_other(rank, fingerprint.as_bytes())? else {
        return same_content(rank, data, sample);
    };
    let (ours, theirs) = two_texts(rank, &listing(data), other)?;
    let difference = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
    let difference = match difference {
        Some((ours, theirs)) => format!(": `{theirs}` there, `{ours}` on rank 0"),
        None => ": it has more or fewer images".to_owned(),
    };
    refuse(&format!(
        "rank {other} has another data set than rank 0{difference}\nhint: data.root must have the same files on every host"
    ))
}

/// Checks that all ranks read the same backbone: the same tensors, and the same configuration file beside them.
pub fn same_backbone(rank: &Rank, file: &BackboneFile) -> Result<(), Failure> {
    let own = format!("tensors {} ({})", file.fingerprint, file.config);
    let Some(other) = first_other(rank, own.as_bytes())? else { return Ok(()) };
    let (ours, theirs) = two_texts(rank, &own, other)?;
    refuse(&format!(
        "rank {other} has another backbone than rank 0: {theirs} there, {ours} on rank 0\nhint: model.weights and the configuration beside it must be the same files on every host"
    ))
}

/// Checks that all ranks initialise the head from the same files; `fingerprint` is that of their content.
pub fn same_head_files(rank: &Rank, fingerprint: &[u8]) -> Result<(), Failure> {
    let Some(other) = first_other(rank, fingerprint)? else { return Ok(()) };
    refuse(&format!(
        "rank {other} initialises the head from other files than rank 0; the files of head.init and head.prompts must be the same on every host"
    ))
}

/// Checks that all ranks have the same files under the same names.
fn same_content(rank: &Rank, data: &DataSet, sample: &ContentSample) -> Result<(), Failure> {
    let own = agreed(&rank.control, || serde_json::to_vec(sample).map_err(Failure::run))?;
    let all = rank.control.all_gather(&own)?;
    let read = |bytes: &Vec<u8>| serde_json::from_slice::<ContentSample>(bytes).map_err(Failure::run);
    let first = read(&all[0])?;
    for (other, bytes) in all.iter().enumerate().skip(1).filter(|(_, bytes)| **bytes != all[0]) {
        if let Some(difference) = first.difference(&read(bytes)?, (&data.train, &data.test)) {
            return refuse(&format!(
                "rank {other} has another data set than rank 0: {difference}\nhint: data.root must have the same files on every host"
            ));
        }
    }
    Ok(())
}

/// Classes and images in order, one per line.
fn listing(data: &DataSet) -> String {
    let classes = data.class_names.iter().enumerate().map(|(class, name)| format!("class {class} {name}\n"));
    let of = |what: &'static str, split: &Split| {
        let lines = split.labels().iter().enumerate();
        let lines = lines.map(|(i, label)| format!("{what} image {i} {} of class {label}\n", split.name(i)));
        lines.collect::<String>()
    };
    let sizes = format!(
        "{} classes, {} training and {} test images\n",
        data.class_names.len(),
        data.train.len(),
        data.test.len()
    );
    sizes + &classes.collect::<String>() + &of("training", &data.train) + &of("test", &data.test)
}

/// The first rank whose bytes differ from those of rank 0.
fn first_other(rank: &Rank, own: &[u8]) -> Result<Option<usize>, Failure> {
    let all = rank.control.all_gather(own)?;
    Ok(all.iter().position(|other| *other != all[0]))
}

/// Rank 0's text and that of `other`, on every rank.
fn two_texts(rank: &Rank, own: &str, other: usize) -> Result<(String, String), Failure> {
    let text = |root| -> Result<String, Failure> {
        let bytes = rank.control.broadcast(own.as_bytes().to_vec(), root)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok((text(0)?, text(other)?))
}

fn refuse(message: &str) -> Result<(), Failure> {
    Err(Failure::input(message).on_all_ranks())
}

fn program_hash() -> io::Result<Vec<u8>> {
    Ok(Sha256::digest(std::fs::read("/proc/self/exe")?).to_vec())
}

fn short(hash: &[u8]) -> String {
    hex(&hash[..hash.len().min(6)])
}
