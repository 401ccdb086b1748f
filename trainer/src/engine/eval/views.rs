//! The input of an evaluation: turns the options of `[eval]` into a list of images and a view of them.

use crate::config::{Config, CropsName, EvalSplit};
use crate::data::transform::{CornerCrops, DecodeMode, ImageView, RandomCrops, TestView, TrainView};
use crate::engine::eval::bad_images::ImageSet;
use crate::engine::setup::sources;
use crate::run::Views;

/// LIFT's rule for `eval.expand`: an image of one and a half patches more than the model's input, rounded down.
pub const fn lift_expand(patch: u32) -> u32 {
    patch.saturating_mul(3) / 2
}

/// The images that `eval.split` names.
pub fn images(split: EvalSplit) -> ImageSet {
    match split {
        EvalSplit::Test => ImageSet::Test,
        EvalSplit::Train => ImageSet::Training,
    }
}

/// The view of each image, for patches of `patch` pixels.
pub fn view(config: &Config, patch: u32) -> ImageView {
    let (size, filter) = (config.model.resolution, sources::filter(config));
    let corners = |mirrored| CornerCrops::lift(size, expand(config, patch), filter, mirrored);
    match config.eval.crops {
        CropsName::Centre => ImageView::Test(TestView::lift(size, filter)),
        CropsName::Five => ImageView::Corners(corners(false)),
        CropsName::Ten => ImageView::Corners(corners(true)),
        CropsName::Random => ImageView::Random(RandomCrops {
            view: TrainView { size, filter, seed: config.train.seed, decode: DecodeMode::Exact },
            count: config.eval.random_crops,
        }),
    }
}

/// Description of the same for messages and for `result.json`.
pub fn described(config: &Config, patch: u32) -> Views {
    let corners = matches!(config.eval.crops, CropsName::Five | CropsName::Ten);
    Views {
        split: config.eval.split.to_string(),
        crops: config.eval.crops.to_string(),
        crops_per_image: view(config, patch).crops(),
        expand: corners.then(|| expand(config, patch)),
    }
}

fn expand(config: &Config, patch: u32) -> u32 {
    if config.eval.expand > 0 { config.eval.expand } else { lift_expand(patch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::demo_config as config;

    #[test]
    fn expand_follows_the_patch_as_in_lift() {
        assert_eq!([16, 14, 32, 4, 7].map(lift_expand), [24, 21, 48, 6, 10]);
        let five = config(&["eval.crops=five"]);
        assert_eq!(described(&five, 14).expand, Some(21));
        assert_eq!(described(&config(&["eval.crops=ten", "eval.expand=5"]), 14).expand, Some(5));
        assert_eq!(described(&config(&["eval.crops=random"]), 14).expand, None);
        assert_eq!(described(&config(&[]), 14), Views::default());
        let ImageView::Corners(crops) = view(&five, 14) else { panic!("five crops are corners") };
        assert_eq!(crops.view.resize, five.model.resolution + 21);
    }

    #[test]
    fn crops_are_counted() {
        for (set, crops) in [("centre", 1), ("five", 5), ("ten", 10)] {
            assert_eq!(view(&config(&[&format!("eval.crops={set}")]), 16).crops(), crops);
        }
        assert_eq!(view(&config(&["eval.crops=random", "eval.random_crops=7"]), 16).crops(), 7);
    }
}
