//! Pictures of mistakes, as they are embedded in a page.

use crate::records::RunRecords;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::layout;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Largest size of a picture in bytes; the trainer writes pictures of 64 by 64 pixels.
const LARGEST: u64 = 64 << 10;
/// Begin of every PNG file.
const PNG: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// A picture of a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Index in the list of mistakes of its run.
    pub mistake: usize,
    /// The picture as a `data:` address.
    pub address: String,
}

/// Pictures that cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// No run has pictures.
    #[error(
        "`--thumbnails` needs pictures in `{}`, and found none\nhint: write them with `lift-trainer eval --run {} --output DIR --set eval.thumbnails=24`, and report DIR",
        folder.join(layout::MISTAKES).display(), folder.display()
    )]
    Absent {
        /// The first run.
        folder: PathBuf,
    },
    /// A picture cannot be read.
    #[error("cannot read the picture `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file is not what the trainer writes.
    #[error("`{}` is not a picture of a mistake: expected a PNG file of at most {} KiB in `{}`", path.display(), LARGEST >> 10, layout::MISTAKES)]
    Content {
        /// The file.
        path: PathBuf,
    },
}

/// The pictures of each run.
pub fn of_all(runs: &[RunRecords]) -> Result<Vec<Vec<Picture>>, PictureError> {
    let pictures = runs.iter().map(of_run).collect::<Result<Vec<_>, _>>()?;
    match runs.first() {
        Some(first) if pictures.iter().all(Vec::is_empty) => {
            Err(PictureError::Absent { folder: first.folder.clone() })
        }
        _ => Ok(pictures),
    }
}

fn of_run(run: &RunRecords) -> Result<Vec<Picture>, PictureError> {
    let mistakes = run.evaluation.iter().flat_map(|evaluation| evaluation.mistakes.iter().enumerate());
    let named = mistakes.filter_map(|(number, mistake)| Some((number, mistake.thumbnail.as_ref()?)));
    named.map(|(mistake, name)| Ok(Picture { mistake, address: address(&run.folder, name)? })).collect()
}

/// A run folder of somebody else must not name files outside of it.
fn address(folder: &Path, name: &str) -> Result<String, PictureError> {
    let path = folder.join(name);
    let is_inside = matches!(
        Path::new(name).components().collect::<Vec<_>>()[..],
        [Component::Normal(folder), Component::Normal(_)] if folder == layout::MISTAKES
    );
    let content = || PictureError::Content { path: path.clone() };
    if !is_inside {
        return Err(content());
    }
    let read = |source| PictureError::Read { path: path.clone(), source };
    let mut bytes = Vec::new();
    File::open(&path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(read)?;
    if bytes.len() as u64 > LARGEST || !bytes.starts_with(&PNG) {
        return Err(content());
    }
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use protocol::evaluation::Mistake;

    fn run(folder: &Path, thumbnail: Option<&str>) -> RunRecords {
        let mut run = fixtures::run(&folder.display().to_string());
        run.evaluation.as_mut().unwrap().mistakes = vec![Mistake {
            image: 7,
            name: "a.png".into(),
            label: 0,
            predicted: 1,
            confidence: 990_000,
            thumbnail: thumbnail.map(str::to_owned),
        }];
        run
    }

    #[test]
    fn only_pictures_of_the_run_are_embedded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mistakes")).unwrap();
        std::fs::write(folder.path().join("mistakes/7.png"), [&PNG[..], b"x"].concat()).unwrap();
        std::fs::write(folder.path().join("mistakes/8.png"), "secret").unwrap();
        std::fs::write(folder.path().join("outside.png"), [&PNG[..], b"x"].concat()).unwrap();
        let of = |name| of_all(&[run(folder.path(), name)]);
        let pictures = of(Some("mistakes/7.png")).unwrap();
        assert_eq!(pictures[0][0].address, "data:image/png;base64,iVBORw0KGgp4");
        for name in ["mistakes/8.png", "outside.png", "mistakes/../outside.png", "/etc/hostname"] {
            assert!(matches!(of(Some(name)), Err(PictureError::Content { .. })), "{name}");
        }
        assert!(matches!(of(Some("mistakes/9.png")), Err(PictureError::Read { .. })));
        let absent = of(None).unwrap_err().to_string();
        let shown = folder.path().display();
        assert_eq!(
            absent,
            format!(
                "`--thumbnails` needs pictures in `{shown}/mistakes`, and found none\nhint: write them with `lift-trainer eval --run {shown} --output DIR --set eval.thumbnails=24`, and report DIR"
            )
        );
    }
}
