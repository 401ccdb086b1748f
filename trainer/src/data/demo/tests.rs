//! What the demo promises: its sizes, keyed pictures, words, and pictures that show what their names say.

use super::composition::{FigureColour, Texture};
use super::*;
use std::collections::HashSet;

/// FNV-1a, to pin pictures.
fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn counts(labels: &[u32]) -> Vec<usize> {
    let mut counts = vec![0; CLASSES];
    for &label in labels {
        counts[label as usize] += 1;
    }
    counts
}

#[test]
fn the_training_set_is_long_tailed_and_the_test_set_balanced() {
    let set = DemoSet::new(3);
    let train = counts(set.labels(DemoSplit::Train));
    // `[int(300 * 0.01 ** (c / 47)) for c in range(48)]` in Python.
    let expected = [
        300, 271, 246, 223, 202, 183, 166, 151, 136, 124, 112, 102, 92, 83, 76, 68, 62, 56, 51, 46, 42, 38,
        34, 31, 28, 25, 23, 21, 19, 17, 15, 14, 13, 11, 10, 9, 8, 7, 7, 6, 5, 5, 4, 4, 4, 3, 3, 3,
    ];
    assert_eq!(train, expected);
    let false_colour = DemoSet::in_style(DemoStyle::FalseColour, 3);
    // `[max(3, int(150 * 0.001 ** (c / 47))) for c in range(48)]` in Python.
    let mut expected =
        vec![150, 129, 111, 96, 83, 71, 62, 53, 46, 39, 34, 29, 25, 22, 19, 16, 14, 12, 10, 9, 7, 6, 5, 5, 4];
    expected.resize(CLASSES, 3);
    assert_eq!(counts(false_colour.labels(DemoSplit::Train)), expected);
    assert_eq!(false_colour.labels(DemoSplit::Test), set.labels(DemoSplit::Test));
    assert_eq!(counts(set.labels(DemoSplit::Test)), vec![TEST_PER_CLASS; CLASSES]);
}

#[test]
fn class_names_are_distinct_and_made_of_the_vocabulary() {
    let names = DemoSet::new(0).class_names();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), CLASSES);
    let known: HashSet<_> = vocabulary().into_iter().collect();
    for name in &names {
        assert!(words(name).all(|word| known.contains(word)), "{name}");
    }
    assert_eq!(names[0], "plain red circle");
}

#[test]
fn a_picture_depends_on_its_key_alone() {
    let (set, again, other) = (DemoSet::new(1), DemoSet::new(1), DemoSet::new(2));
    let mut seen = HashSet::new();
    for index in [7, 0, 1199, 600] {
        for split in [DemoSplit::Train, DemoSplit::Test] {
            let picture = set.draw(split, index).unwrap();
            assert_eq!(again.draw(split, index).unwrap(), picture);
            assert_ne!(other.draw(split, index).unwrap(), picture);
            assert!(seen.insert(picture.pixels));
        }
    }
    assert_eq!(pretraining_example(4, 9), pretraining_example(4, 9));
    assert_ne!(pretraining_example(4, 9).image, pretraining_example(5, 9).image);
}

/// Nothing but the domain differs: the same figures, with red and blue exchanged.
#[test]
fn false_colour_exchanges_red_and_blue() {
    let [cluttered, false_colour] =
        [DemoStyle::Cluttered, DemoStyle::FalseColour].map(|style| DemoSet::in_style(style, 1));
    let [one, other] = [&cluttered, &false_colour].map(|set| set.draw(DemoSplit::Test, 30).unwrap());
    let mean = |image: &RgbImage, channel: usize| {
        image.pixels.iter().skip(channel).step_by(3).map(|&byte| f64::from(byte)).sum::<f64>() / 1024.0
    };
    for (a, b) in [(0, 2), (1, 1), (2, 0)] {
        // Only the noise, which comes last, is not exchanged with the channels.
        let (a, b) = (mean(&one, a), mean(&other, b));
        assert!((a - b).abs() < 4.0, "{a} {b}");
    }
}

#[test]
fn no_picture_lies_beyond_the_end() {
    let set = DemoSet::new(0);
    for split in [DemoSplit::Train, DemoSplit::Test] {
        let len = set.labels(split).len();
        assert!(set.draw(split, len - 1).is_some());
        assert!(set.draw(split, len).is_none());
        assert!(set.draw(split, usize::MAX).is_none());
    }
}

#[test]
fn pretraining_shows_every_composition_but_the_classes() {
    let classes: HashSet<_> = demo_classes().into_iter().collect();
    let seen: HashSet<_> = (0..12_000).map(|index| pretraining_subject(0, index).0).collect();
    assert!(seen.is_disjoint(&classes));
    assert_eq!(seen.len(), COMPOSITIONS - CLASSES);
}

#[test]
fn an_example_is_a_picture_of_what_its_caption_says() {
    for index in 0..100 {
        let example = pretraining_example(0, index);
        assert_eq!(example.composition, pretraining_subject(0, index).0);
        let named = example.composition.words().map(|word| words(&example.caption).any(|w| w == word));
        assert_eq!(named, [true; 3], "{}", example.caption);
        assert_eq!((example.image.width, example.image.height, example.image.pixels.len()), (32, 32, 3072));
    }
}

/// A plain figure covers a good part of the picture with something near the colour it is named after.
#[test]
fn pictures_show_the_colour_of_their_name() {
    for index in 0..1000 {
        let example = pretraining_example(11, index);
        let composition = example.composition;
        if composition.texture() != Texture::Plain {
            continue;
        }
        let near = |colour: FigureColour| {
            let wanted = picture::pigment(colour).map(|channel| channel * 255.0);
            let close = |pixel: &&[u8]| {
                let far: f32 = pixel.iter().zip(wanted).map(|(&a, b)| (f32::from(a) - b).powi(2)).sum();
                far < 75.0 * 75.0
            };
            example.image.pixels.chunks_exact(3).filter(close).count()
        };
        assert!(near(composition.colour()) >= 40, "`{}` (example {index})", example.caption);
    }
}

/// Pictures must not change under a run that is resumed with a newer program, nor differ between machines.
#[test]
fn pictures_are_those_of_old() {
    let set = DemoSet::new(0);
    let found = [
        digest(&set.draw(DemoSplit::Train, 0).unwrap().pixels),
        digest(&set.draw(DemoSplit::Test, 1199).unwrap().pixels),
        digest(&pretraining_example(0, 0).image.pixels),
        digest(&DemoSet::in_style(DemoStyle::FalseColour, 0).draw(DemoSplit::Train, 0).unwrap().pixels),
    ];
    let expected =
        [0x425e_dfd5_2738_aa23, 0x1768_13fe_3bf1_288f, 0x2ea6_e698_62bd_9429, 0x398b_9f0b_784a_9338];
    assert_eq!(found, expected, "{found:#018x?}");
}
