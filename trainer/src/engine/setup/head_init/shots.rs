//! Shots: the row of a class is the mean feature of at most `head.shots` of its training images, scaled to unit length.
//!
//! The seed chooses the images, as for the sampler `n_shot`: the choice is a pure function of seed, labels and number.

use super::class_mean::class_means;
use super::view::{self, InitView};
use super::{HeadInit, InitContext, InitFacts, MakeHeadInit};
use crate::data::order::{Order, OrderError, Sampler};
use crate::data::source::Split;
use crate::engine::failure::Failure;
use crate::options::{Declared, Method, section};
use std::sync::Arc;
use tch::Tensor;

section! {
    /// Class means over a few images.
    pub struct ShotsOptions in "head" {
        /// Largest number of training images per class that are averaged.
        #[range(1..)]
        pub shots: u32 = 10,
    }
}

/// Shots.
pub const METHOD: Method<MakeHeadInit> = Method {
    word: "shots",
    about: "Mean image features of each class over `head.shots` training images, which the seed chooses.",
    official: &["1_shot", "10_shot", "100_shot"],
    options: &[&ShotsOptions::SECTION, &view::ViewOptions::SECTION],
    make: |config| {
        Ok(Box::new(Shots { shots: config.options::<ShotsOptions>().shots, seed: config.train.seed }))
    },
};

/// The initialisation.
pub struct Shots {
    /// Largest number of images of a class.
    pub shots: u32,
    /// Seed of the choice.
    pub seed: u64,
}

impl Shots {
    /// The images chosen of a list, in its order.
    pub fn choose(&self, labels: &[u32], classes: usize) -> Result<Vec<usize>, OrderError> {
        let order = Order::new(Sampler::NShot { shots: self.shots }, labels, classes, self.seed)?;
        let mut chosen = Vec::new();
        order.fill(0, 0..order.len(0), &mut chosen);
        chosen.sort_unstable();
        Ok(chosen.into_iter().map(|sample| sample as usize).collect())
    }
}

impl HeadInit for Shots {
    fn check(&self, facts: &InitFacts<'_>) -> Result<(), Failure> {
        facts.every_class_has_images()
    }

    fn rows(&self, context: &InitContext<'_>) -> Result<Option<Tensor>, Failure> {
        let chosen = self.choose(context.train.labels(), context.class_names.len());
        let chosen = chosen.map_err(|error| Failure::input(error).on_all_ranks())?;
        let images = Arc::new(Split::some_of(Arc::clone(context.train), chosen));
        let rows = class_means(&context.features(&images, InitView::Plain))?;
        rows.map(Some).map_err(|class| context.unread(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_images_of_each_class_as_there_are_and_the_seed_chooses() {
        let labels: Vec<u32> = [0; 9].into_iter().chain([1; 2]).chain([2; 5]).collect();
        let chosen = |shots, seed| Shots { shots, seed }.choose(&labels, 3).unwrap();
        let of_class = |chosen: &[usize], class| chosen.iter().filter(|&&i| labels[i] == class).count();
        let some = chosen(4, 1);
        assert_eq!([0, 1, 2].map(|class| of_class(&some, class)), [4, 2, 4]);
        assert!(some.is_sorted_by(|a, b| a < b), "each once, in the order of the list");
        assert_eq!(some, chosen(4, 1));
        assert!((2..9).any(|seed| chosen(4, seed) != some));
        assert_eq!(chosen(100, 1), (0..labels.len()).collect::<Vec<_>>());
    }
}
