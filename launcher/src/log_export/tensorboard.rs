//! An event file of TensorBoard.

use super::{LogExportError, TimedLine, new_folder, scalars, write_new};
use std::path::{Path, PathBuf};
use trackers::{EventWriter, event_file_name};

/// Writes all lines into one file in a new folder, which it returns.
pub fn write(lines: &[TimedLine], folder: &Path) -> Result<PathBuf, LogExportError> {
    new_folder(folder)?;
    let begin = lines.first().map_or(0.0, |line| line.time);
    let file = folder.join(event_file_name(begin.max(0.0) as u64, "lift", 0));
    let mut events = Vec::new();
    let write = |events: &mut Vec<u8>| {
        let mut writer = EventWriter::new(events, begin)?;
        for (time, scalars) in lines.iter().filter_map(scalars) {
            writer.scalars(time, scalars.step, &scalars.values)?;
        }
        writer.flush()
    };
    write(&mut events).map_err(|source| LogExportError::Write { path: file.clone(), source })?;
    write_new(&file, events)?;
    Ok(folder.to_owned())
}
