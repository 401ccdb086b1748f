//! Views of image files, of which only a part is decoded: exact ones against the whole image, fast ones against exact ones.

use super::*;
use crate::data::source::Stored;
use crate::data::transform::{DecodeMode, RandomCrops};

/// The photographs of a folder.
fn photos(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let is_photo = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("jpg") || ending == "JPEG")
    };
    let mut paths: Vec<_> = entries.filter(is_photo).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), std::fs::read(path).expect("a file"))).collect()
}

fn train(size: u32, decode: DecodeMode) -> TrainView {
    TrainView { size, filter: Filter::Bicubic, seed: 3, decode }
}

fn view_of(view: ImageView, stored: Stored, position: u64, scratch: &mut Scratch) -> Vec<u8> {
    let mut out = vec![0; view.bytes()];
    view.write(stored, (0, position), scratch, &mut out).expect("pixels");
    out
}

/// The pixels of Pillow and torchvision, whatever is left undecoded.
#[test]
fn exact_views_of_files_are_those_of_the_whole_image() {
    let exact = train(64, DecodeMode::Exact);
    let views = [
        ImageView::Train(exact),
        ImageView::Train(train(224, DecodeMode::Exact)),
        ImageView::Test(TestView::lift(64, Filter::Bicubic)),
        ImageView::Test(TestView::plain(224, Filter::Bilinear)),
        ImageView::Test(TestView { size: 64, resize: 40, filter: Filter::Bicubic }),
        ImageView::Corners(CornerCrops::lift(64, 9, Filter::Bicubic, true)),
        ImageView::Random(RandomCrops { view: exact, count: 3 }),
    ];
    let mut folders = vec![fixtures::kept("photos")];
    folders.extend(fixtures::data("photos"));
    let mut scratch = Scratch::default();
    for (number, (name, bytes)) in folders.iter().flat_map(|folder| photos(folder)).enumerate() {
        let whole = decode(&bytes).expect("a picture");
        // All views of a few photographs, and one view of each of the others.
        for view in
            views.iter().enumerate().filter(|(at, _)| number < 5 || at % 7 == number % 7).map(|(_, v)| *v)
        {
            for position in 0..3 {
                let ours = view_of(view, Stored::Encoded(&bytes), position, &mut scratch);
                let expected = view_of(view, (&whole).into(), position, &mut scratch);
                assert!(ours == expected, "{name}: {view:?} at position {position} differs");
            }
        }
    }
}

/// Differences of a crop: PSNR in dB, and the mean signed error in levels.
fn difference(ours: &[u8], expected: &[u8]) -> (f64, f64) {
    let (mut squares, mut sum) = (0.0, 0.0);
    for (a, b) in ours.iter().zip(expected) {
        let error = f64::from(*a) - f64::from(*b);
        (squares, sum) = (squares + error * error, sum + error);
    }
    let count = ours.len() as f64;
    (10.0 * (255.0 * 255.0 / (squares / count)).log10(), sum / count)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Whether the fast view of a photograph is reduced in the transform of JPEG.
fn is_reduced(bytes: &[u8], size: u32, position: u64) -> bool {
    let mut buffers = DecodeBuffers::default();
    let (width, height) = Picture::open(bytes, &mut buffers).expect("a picture").size();
    let drawn = TrainView::draw(train(size, DecodeMode::Fast).seed, 0, position, width, height);
    DecodeMode::Fast.precision(drawn.rect(), size).reduction() > 1
}

/// Compares default crops of a folder in both modes; returns how many were reduced in the transform of JPEG.
fn compare_modes(folder: &Path, size: u32, crops: u64) -> usize {
    let mut scratch = Scratch::default();
    let (mut all, mut reduced, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (name, bytes) in photos(folder) {
        for position in 0..crops {
            let [exact, fast] = [DecodeMode::Exact, DecodeMode::Fast].map(|mode| {
                view_of(ImageView::Train(train(size, mode)), Stored::Encoded(&bytes), position, &mut scratch)
            });
            let (psnr, error) = difference(&fast, &exact);
            assert!(psnr >= 27.0, "{name}, size {size}, position {position}: {psnr:.1} dB");
            all.push(psnr);
            errors.push(error);
            if is_reduced(&bytes, size, position) {
                reduced.push(psnr);
            }
        }
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    let worst = reduced.iter().copied().fold(f64::INFINITY, f64::min);
    let count = reduced.len();
    println!("size {size}: {} crops, median {:.1} dB", all.len(), median(all.clone()));
    assert!(median(all) >= 38.0, "{} size {size}: median PSNR", folder.display());
    assert!(mean.abs() < 0.2, "{} size {size}: mean error {mean}", folder.display());
    if count > 0 {
        let median = median(reduced);
        println!(
            "size {size}: {count} of {} reduced, median {median:.1} dB, worst {worst:.1}, mean error {mean:.4}",
            errors.len()
        );
        assert!(
            median >= 35.0,
            "{} size {size}: median PSNR of reduced crops: {median:.1}",
            folder.display()
        );
    }
    count
}

#[test]
fn fast_views_are_close_to_exact_ones() {
    assert!(compare_modes(&fixtures::kept("photos"), 128, 12) > 5);
    compare_modes(&fixtures::kept("photos"), 224, 6);
    if let Some(folder) = fixtures::data("photos") {
        compare_modes(&folder, 224, 2);
    }
}
