//! Captions of the drawings, and the fixed list of words they and the class names are made of.

use super::composition::{Composition, attribute_words};
use super::draws::PictureDraws;

/// Sentences around a composition's name, which stands in place of `{}`.
pub const CAPTION_TEMPLATES: [&str; 8] = [
    "a photo of a {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "a small picture of the {}.",
    "this is a {}.",
    "there is a {} in the picture.",
    "the {}",
    "{}",
];

/// Odds that a caption tells the three words apart instead of one after the other.
const SPREAD_OUT: f32 = 0.25;

/// A caption for a drawing of `composition`.
pub(super) fn caption(composition: Composition, draws: &mut PictureDraws) -> String {
    if draws.chance(SPREAD_OUT) {
        let [texture, colour, shape] = composition.words();
        return match draws.below(2) {
            0 => format!("the {shape} is {colour} and {texture}."),
            _ => format!("a picture of the {shape}, {texture} and {colour}."),
        };
    }
    draws.one_of(&CAPTION_TEMPLATES).replace("{}", &composition.name())
}

/// Every word and mark that occurs in captions, class names and [`CAPTION_TEMPLATES`], in a fixed order: its
/// place in this list is a word's number for a text tower.
pub fn vocabulary() -> Vec<&'static str> {
    let marks = [".", ","];
    let common =
        ["a", "the", "of", "in", "is", "and", "this", "there", "photo", "picture", "drawing", "small"];
    marks.into_iter().chain(common).chain(attribute_words()).collect()
}

/// The words and marks of a text, in the form in which [`vocabulary`] lists them apart from upper case: runs
/// of letters and digits, and each other visible character by itself.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end = if first.is_alphanumeric() {
            rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::super::composition::{demo_classes, pretraining_compositions};
    use super::super::draws::PictureStream;
    use super::*;
    use std::collections::HashSet;

    fn captions() -> impl Iterator<Item = String> {
        let others = pretraining_compositions();
        (0..20_000).map(move |i| {
            let mut draws = PictureDraws::new(0, PictureStream::Pretraining, 0, i);
            let composition = draws.one_of(&others);
            caption(composition, &mut draws)
        })
    }

    #[test]
    fn captions_are_made_of_the_vocabulary_and_use_all_of_it() {
        let vocabulary: HashSet<_> = vocabulary().into_iter().collect();
        let mut used = HashSet::new();
        for caption in captions() {
            for word in words(&caption) {
                let known = vocabulary.get(word).unwrap_or_else(|| panic!("`{word}` of `{caption}`"));
                used.insert(*known);
            }
        }
        assert_eq!(used, vocabulary);
    }

    #[test]
    fn every_word_of_a_class_name_occurs_in_captions() {
        let seen: HashSet<String> =
            captions().flat_map(|c| words(&c).map(str::to_owned).collect::<Vec<_>>()).collect();
        for class in demo_classes() {
            assert!(words(&class.name()).all(|word| seen.contains(word)), "{}", class.name());
        }
    }

    #[test]
    fn the_vocabulary_lists_each_word_once() {
        let list = vocabulary();
        assert_eq!(list.iter().collect::<HashSet<_>>().len(), list.len());
    }

    #[test]
    fn captions_fit_a_context_of_sixteen_with_both_end_marks() {
        let longest = captions().map(|caption| words(&caption).count()).max();
        assert!(longest <= Some(14), "{longest:?}");
    }

    #[test]
    fn a_caption_names_its_composition() {
        for (i, one) in pretraining_compositions().into_iter().enumerate() {
            let text = caption(one, &mut PictureDraws::new(0, PictureStream::Pretraining, 1, i as u64));
            assert!(one.words().iter().all(|word| words(&text).any(|w| w == *word)), "{text}");
        }
    }

    #[test]
    fn texts_split_into_words_and_marks() {
        let split: Vec<_> = words("  a Photo,of été2 (red).").collect();
        assert_eq!(split, ["a", "Photo", ",", "of", "été2", "(", "red", ")", "."]);
        assert_eq!(words(" \n").count(), 0);
    }
}
