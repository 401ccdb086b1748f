//! Small pictures of the most confident mistakes, for `lift report --thumbnails`.

use crate::data::source::{Split, Stored};
use crate::data::transform::{Filter, ImageView, Scratch, TestView};
use crate::run::RunFolder;
use protocol::evaluation::EvaluationRecord;
use protocol::{layout, write_atomically};
use std::io;

/// Side of a picture in pixels.
const SIDE: u32 = 64;

/// Writes a picture for each of the first `count` mistakes into the run folder, and enters its name into the record. A
/// picture that cannot be written is reported and left out: the result is complete without it.
pub fn write(record: &mut EvaluationRecord, split: &Split, count: usize, folder: &RunFolder) {
    if count == 0 {
        return;
    }
    if let Err(error) = std::fs::create_dir_all(folder.path().join(layout::MISTAKES)) {
        tracing::warn!("cannot write pictures of mistakes to `{}`: {error}", folder.path().display());
        return;
    }
    for mistake in record.mistakes.iter_mut().take(count) {
        let name = format!("{}/{}.png", layout::MISTAKES, mistake.image);
        let path = folder.path().join(&name);
        let written = picture(split, mistake.image as usize)
            .and_then(|png| write_atomically(&path, &png).map_err(|error| error.to_string()));
        match written {
            Ok(()) => mistake.thumbnail = Some(name),
            Err(reason) => tracing::warn!("cannot write the picture `{}`: {reason}", path.display()),
        }
    }
}

/// The centre of an image, as PNG.
fn picture(split: &Split, index: usize) -> Result<Vec<u8>, String> {
    let view = ImageView::Test(TestView::plain(SIDE, Filter::Bicubic));
    let plane = (SIDE * SIDE) as usize;
    let mut planes = vec![0; 3 * plane];
    let mut written = Ok(());
    let mut write = |stored: Stored<'_>| {
        written = view.write(stored, (0, index as u64), &mut Scratch::default(), &mut planes);
    };
    split.stored(index, &mut write).map_err(|error| error.to_string())?;
    written.map_err(|error| error.to_string())?;
    let pixels: Vec<u8> =
        (0..plane).flat_map(|at| [0, 1, 2].map(|channel| planes[channel * plane + at])).collect();
    encoded(&pixels).map_err(|error| error.to_string())
}

fn encoded(pixels: &[u8]) -> io::Result<Vec<u8>> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(png)
}
