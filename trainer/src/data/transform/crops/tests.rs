//! Where crops lie, that one resize serves them all, and what random ones are keyed by.

use super::super::tests::write;
use super::super::{DecodeMode, ImageView, Scratch};
use super::*;
use crate::data::RgbImage;
use crate::data::fixtures::noise;
use crate::data::resize::resize;
use proptest::prelude::*;

/// An image whose pixels say where they are.
fn picture(width: u32, height: u32) -> RgbImage {
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect();
    RgbImage { width, height, pixels }
}

fn crops_of(view: ImageView, image: &RgbImage) -> Vec<Vec<u8>> {
    let mut out = vec![1; view.bytes()];
    write(view, image, &mut out);
    out.chunks_exact(view.bytes() / view.crops()).map(<[u8]>::to_vec).collect()
}

/// A part of an image, channel by channel.
fn part(image: &RgbImage, top: u32, left: u32, size: u32, flip: bool) -> Vec<u8> {
    let mut planes = Vec::new();
    for channel in 0..3 {
        for y in top..top + size {
            let columns =
                (left..left + size).map(|x| image.pixels[((y * image.width + x) * 3 + channel) as usize]);
            let mut row: Vec<u8> = columns.collect();
            if flip {
                row.reverse();
            }
            planes.extend(row);
        }
    }
    planes
}

#[test]
fn ten_crops_are_where_torchvision_has_them() {
    // 7 rows and 9 columns are free: halves go to the even neighbour, 4 both times.
    let image = picture(41, 39);
    let (five, ten) =
        [false, true].map(|mirrored| CornerCrops::lift(32, 7, Filter::Bilinear, mirrored)).into();
    let expected =
        [(0, 0), (0, 9), (7, 0), (7, 9), (4, 4)].map(|(top, left)| part(&image, top, left, 32, false));
    assert_eq!(crops_of(ImageView::Corners(five), &image), expected);
    // The mirrored image has its left where the image has its right, and its centre a pixel further.
    let mirrored =
        [(0, 9), (0, 0), (7, 9), (7, 0), (4, 5)].map(|(top, left)| part(&image, top, left, 32, true));
    assert_eq!(crops_of(ImageView::Corners(ten), &image), [expected, mirrored].concat());
}

#[test]
fn a_very_long_picture_costs_no_more_than_its_crops() {
    let wide = RgbImage { width: 200_000, height: 1, pixels: vec![200; 600_000] };
    let view = CornerCrops::lift(32, 6, Filter::Bicubic, true);
    let mut buffers = ResizeBuffers::default();
    let mut out = vec![0; ImageView::Corners(view).bytes()];
    view.write(&mut Picture::from(&wide), &mut buffers, &mut out).expect("pixels");
    assert!(out.iter().all(|&value| value == 200));
    assert!(buffers.resized.capacity() < 100_000, "{}", buffers.resized.capacity());
}

#[test]
fn random_crops_are_keyed_by_seed_picture_and_crop() {
    let draw = |seed, sample, crop| RandomCrops::draw(seed, sample, crop, 500, 375);
    assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
    for other in
        [draw(0, 2, 3), draw(1, 0, 3), draw(1, 2, 0), draw(1, 3, 2), TrainView::draw(1, 2, 3, 500, 375)]
    {
        assert_ne!(draw(1, 2, 3), other);
    }
    let image = picture(50, 40);
    let view = TrainView { size: 8, filter: Filter::Bilinear, seed: 5, decode: DecodeMode::Exact };
    let crops = |count, sample| {
        let view = ImageView::Random(RandomCrops { view, count });
        let mut out = vec![1; view.bytes()];
        // Neither the epoch nor what was in the buffers matters.
        view.write((&image).into(), (sample, sample), &mut Scratch::default(), &mut out).expect("pixels");
        out
    };
    assert_eq!(crops(3, 9)[..3 * 64], crops(1, 9));
    assert_ne!(crops(1, 8), crops(1, 9));
    let mut expected = vec![0; 3 * 64];
    let drawn = RandomCrops::draw(5, 9, 2, 50, 40);
    let mut whole = Picture::from(&image);
    let part = whole.part(drawn.rect(), Precision::Exact).expect("pixels");
    view.resize(part, drawn, &mut ResizeBuffers::default(), &mut expected);
    assert_eq!(crops(3, 9)[2 * 3 * 64..], expected);
}

proptest! {
    /// Crops are parts of the resized image, also where it is too long to be made whole.
    #[test]
    fn crops_are_parts_of_the_whole(
        width in 1u32..70, height in 1u32..70, size in 1u32..12, expand in 0u32..40, cubic: bool,
    ) {
        let image = noise(width, height);
        let filter = if cubic { Filter::Bicubic } else { Filter::Bilinear };
        let view = CornerCrops::lift(size, expand, filter, true);
        let (long, high) = resized_size(width, height, size + expand);
        let whole = resize(&image, long, high, filter);
        let expected: Vec<Vec<u8>> = view
            .of_resized(long, high)
            .into_iter()
            .map(|crop| part(&whole, crop.top, crop.left, size, crop.flip))
            .collect();
        prop_assert_eq!(crops_of(ImageView::Corners(view), &image), expected);
    }
}
