//! Suggestions for misspelt words.

/// Below this likeness a suggestion would be a guess: half of the letters differ.
const LIKE_ENOUGH: f64 = 0.5;

/// The candidate most similar to the word, if one is similar enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut best_likeness = LIKE_ENOUGH;
    for candidate in candidates {
        let likeness = strsim::normalized_damerau_levenshtein(word, candidate);
        if likeness > best_likeness {
            (best, best_likeness) = (Some(candidate), likeness);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_leaves_nonsense() {
        let words = ["cifar100_ir100", "cifar100_ir50", "imagenet_lt"];
        assert_eq!(nearest("cifar100_ir10O", words), Some("cifar100_ir100"));
        assert_eq!(nearest("imagenetlt", words), Some("imagenet_lt"));
        assert_eq!(nearest("xyz", words), None);
        assert_eq!(nearest("", words), None);
    }
}
