//! Ids of the official tokenizer, and the rules one by one.

use super::html::{unescape, unescape_certain};
use super::repair::repair;
use super::*;
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value as Json;
use std::path::Path;
use std::sync::LazyLock;

static CLIP: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::clip().expect("the vocabulary is sound"));

struct Case {
    manifest: Json,
    tensors: Vec<u8>,
}

impl Case {
    fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tokenizer").join(name);
        let read = |file: &str| std::fs::read(folder.join(file)).expect("the fixture is there");
        let manifest = serde_json::from_slice(&read("manifest.json")).expect("a manifest is JSON");
        Self { manifest, tensors: read("tensors.safetensors") }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.tensors).expect("a safetensors file");
        tensors.tensor(name).expect("the tensor is there").data().to_vec()
    }

    fn ids(&self, name: &str) -> Vec<i64> {
        self.bytes(name).as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect()
    }
}

fn texts_of(list: &Json) -> Vec<String> {
    let list = list.as_array().expect("a list").iter();
    list.map(|text| text.as_str().expect("a text").to_owned()).collect()
}

/// All rows, also those that `ftfy` repairs before (`plain` 0).
#[test]
fn golden_texts_have_the_official_ids() {
    let case = Case::open("texts");
    let (ids, lengths) = (case.ids("token_ids"), case.ids("length"));
    let (plain, too_long) = (case.bytes("plain"), case.bytes("too_long"));
    let texts = texts_of(&case.manifest["texts"]);
    assert_eq!(texts.len(), 210);
    assert!(plain.contains(&0) && too_long.contains(&1));
    let mut differ = Vec::new();
    for (row, text) in texts.iter().enumerate() {
        let length = lengths[row] as usize;
        let expected = &ids[row * CLIP_CONTEXT..(row + 1) * CLIP_CONTEXT];
        let found = CLIP.tokenize(&[text], CLIP_CONTEXT);
        let equal = match &found {
            Ok(found) => too_long[row] == 0 && found == expected,
            // The fixture cuts what is too long and ends it with the end token.
            Err(TokenizeError::TooLong { length: found, .. }) => {
                let kept = CLIP.encode(text).expect("CLIP knows every word");
                too_long[row] == 1
                    && *found == length
                    && kept[..CLIP_CONTEXT - 2] == expected[1..CLIP_CONTEXT - 1]
            }
            Err(_) => false,
        };
        if !equal {
            differ.push((row, text, plain[row], found));
        }
    }
    assert!(differ.is_empty(), "{differ:?}");
}

#[test]
fn golden_prompts_have_the_official_ids() {
    let case = Case::open("prompts");
    let template = case.manifest["config"]["template"].as_str().expect("a template");
    let names = texts_of(&case.manifest["config"]["classnames"]);
    let prompts: Vec<String> = names.iter().map(|name| prompt(template, name)).collect();
    assert_eq!(prompts[1], "a photo of a aquarium fish.");
    assert_eq!(CLIP.tokenize(&prompts, CLIP_CONTEXT).expect("short texts"), case.ids("tokens"));
}

#[test]
fn what_is_too_long_is_an_error_that_says_by_how_much() {
    let text = "word ".repeat(76);
    let error = CLIP.tokenize(&["fine", &text], CLIP_CONTEXT).expect_err("76 words, start and end");
    let shown = &text[..100];
    assert_eq!(
        error.to_string(),
        format!(
            "text `{shown}...` has 78 tokens, the text tower takes 77\nhint: shorten the class name or the template"
        )
    );
    assert_eq!(CLIP.tokenize(&["word ".repeat(75)], CLIP_CONTEXT).expect("it fits").len(), 77);
    assert!(matches!(CLIP.tokenize(&[""], 1), Err(TokenizeError::TooLong { length: 2, limit: 1, .. })));
}

#[test]
fn no_texts_are_no_rows() {
    assert_eq!(CLIP.tokenize::<&str>(&[], CLIP_CONTEXT), Ok(vec![]));
}

#[test]
fn ids_are_those_of_clip() {
    assert_eq!((CLIP.vocabulary(), CLIP.start(), CLIP.end()), (49_408, 49_406, 49_407));
    assert_eq!(CLIP.encode("a photo of a cat"), Ok(vec![320, 1125, 539, 320, 2368]));
    // A second time, from the cache.
    assert_eq!(CLIP.encode("A PHOTO of a  cat "), Ok(vec![320, 1125, 539, 320, 2368]));
}

/// U+0345, which the official expression loses.
#[test]
fn the_mark_that_belongs_to_no_word_is_lost() {
    assert_eq!(CLIP.encode("cat!\u{345}!cat"), CLIP.encode("cat! !cat"));
}

#[test]
fn words_are_looked_up_in_their_list() {
    let words = Tokenizer::words(&["a", "photo", "of", "red", "circle", ".", "-", "Ring"]);
    assert_eq!((words.vocabulary(), words.start(), words.end()), (10, 8, 9));
    assert_eq!(words.encode("A photo of  a red-ring."), Ok(vec![0, 1, 2, 0, 3, 6, 7, 5]));
    assert_eq!(words.tokenize(&["a ring", "a"], 5), Ok(vec![8, 0, 7, 9, 0, 8, 0, 9, 0, 0]));
    assert_eq!(words.tokenize(&[" \t"], 2), Ok(vec![8, 9]));
    let error = words.encode("a blue circle").expect_err("blue is not listed");
    assert_eq!(
        error.to_string(),
        "text `a blue circle` has the word `blue`, which is not among the 8 words this model knows\nhint: choose another model with -m, or initialise the head from images: \
         `--set head.init=class_mean`"
    );
    assert!(matches!(words.tokenize(&["a a a"], 4), Err(TokenizeError::TooLong { length: 5, .. })));
}

#[test]
fn prompts_fill_the_template() {
    assert_eq!(prompt("a photo of a {}.", "red_fox_cub"), "a photo of a red fox cub.");
    assert_eq!(prompt("{}, {}", "x"), "x, x");
    assert_eq!(prompt("no place", "x"), "no place");
    // The template's own underscores stay.
    assert_eq!(prompt("a_{}", "b_c"), "a_b c");
}

/// Expected values are those of Python's `html.unescape`.
#[test]
fn references_are_replaced_as_in_python() {
    for (text, expected) in [
        ("fish &amp; chips", "fish & chips"),
        ("&amp;lt;", "&lt;"),
        ("&copy 2020", "\u{a9} 2020"),
        ("&notanentity;", "\u{ac}anentity;"),
        ("&notin;", "\u{2209}"),
        ("&notit;", "\u{ac}it;"),
        ("&#39;&#x27;&#X27;&#0039", "''''"),
        ("&#;&#x;&#xg;&;&", "&#;&#x;&#xg;&;&"),
        (
            "&#0;|&#1;|&#128;|&#129;|&#159;|&#xd800;|&#x110000;|&#99999999999;|&#xfffe;|&#13;",
            "\u{fffd}||\u{20ac}|\u{81}|\u{178}|\u{fffd}|\u{fffd}|\u{fffd}||\r",
        ),
        ("&nbsp;", "\u{a0}"),
        ("&fjlig;&nvlt;&ThickSpace;", "fj<\u{20d2}\u{205f}\u{200a}"),
        ("&&amp&amp", "&&&"),
        ("&unknown;", "&unknown;"),
        ("&ampamp;", "&amp;"),
        ("&EACUTE;", "&EACUTE;"),
        ("a&b", "a&b"),
        ("&CounterClockwiseContourIntegral;", "\u{2233}"),
    ] {
        assert_eq!(unescape(text), expected, "{text}");
    }
}

#[test]
fn certain_references_end_with_a_semicolon() {
    for (text, expected) in [
        ("&eacute;&EACUTE;&Eacute;&eACUTE;", "\u{e9}\u{c9}\u{c9}&eACUTE;"),
        ("BUNDESSTRA&SZLIG;E", "BUNDESSTRASSE"),
        ("&copy 2020", "&copy 2020"),
        ("&notanentity;", "&notanentity;"),
        ("&#65;&#65 &#x41;", "A&#65 A"),
        ("&#6a;", "&#6a;"),
    ] {
        assert_eq!(unescape_certain(text), expected, "{text}");
    }
}

/// Expected values are those of `ftfy.fix_text` 6.3.
#[test]
fn texts_are_repaired_as_ftfy_does() {
    for (text, expected) in [
        ("plain text", "plain text"),
        ("\u{201c}don\u{2019}t\u{201d} \u{2bc}okina", "\"don't\" 'okina"),
        ("\u{feff}bom\u{7}bell\0nul\u{7f}", "bombellnul"),
        ("\u{fb01}ligature \u{fb02} \u{fb03}\u{fb06} \u{1c5} \u{149}", "filigature fl ffist D\u{17e} 'n"),
        ("\u{e6}\u{153}", "\u{e6}\u{153}"),
        ("\u{ff26}\u{ff55}\u{ff4c}\u{ff4c}\u{3000}\u{ff76}\u{ff9e}", "Full \u{30ac}"),
        ("e\u{301} A\u{30a} \u{212a}", "\u{e9} \u{c5} K"),
        ("caf\u{c3}\u{a9} \u{e2}\u{20ac}\u{2122}", "caf\u{e9} '"),
        // Twice over.
        ("caf\u{c3}\u{192}\u{c2}\u{a9}", "caf\u{e9}"),
        ("\u{e2}\u{20ac}\u{153}quoted\u{e2}\u{20ac}\u{9d}", "\"quoted\""),
        ("\u{e6}\u{9d}\u{b1}\u{e4}\u{ba}\u{ac}", "\u{6771}\u{4eac}"),
        ("Stra\u{c3}\u{178}e, \u{c5}\u{a1}koda, \u{c5}\u{be}", "Stra\u{df}e, \u{161}koda, \u{17e}"),
        // Not damaged, though UTF-8 when read back.
        ("NESTL\u{c9}\u{ae}", "NESTL\u{c9}\u{ae}"),
        ("CAF\u{c9}\u{bb}", "CAF\u{c9}\u{bb}"),
        ("\u{c4}\u{161}g", "\u{c4}\u{161}g"),
        // Not UTF-8 when read back.
        ("caf\u{e9} na\u{ef}ve \u{201e}x\u{201d}", "caf\u{e9} na\u{ef}ve \"x\""),
        ("a\r\nb\rc\u{2028}d\u{2029}e\u{85}f", "a\nb\nc\nd\ne\u{2026}f"),
        ("\u{1b}[36;44mblue\u{1b}[0m \u{1b}[x \u{1b}", "blue  "),
        ("&lt;b&gt; &amp;amp;amp; &EACUTE;", "<b> & \u{c9}"),
        ("<b> &amp;", "<b> &amp;"),
        ("&amp;\n<b> &amp;\n&amp;", "&\n<b> &amp;\n&amp;"),
        ("\u{fffc}\u{206a}\u{200b}\u{ad}", "\u{200b}\u{ad}"),
    ] {
        assert_eq!(repair(text), expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_encoded(text in any::<String>()) {
        let ids = CLIP.encode(&text).expect("CLIP knows every word");
        prop_assert!(ids.iter().all(|&id| (0..49_408).contains(&id)));
    }

    /// The bytes of the tokens, put together, are the words.
    #[test]
    fn nothing_of_plain_words_is_lost(words in proptest::collection::vec("[a-z]{1,12}", 1..6)) {
        let text = words.join(" ");
        let whole = CLIP.encode(&text).expect("CLIP knows every word");
        let parts: Vec<i64> =
            words.iter().flat_map(|word| CLIP.encode(word).expect("CLIP knows every word")).collect();
        prop_assert_eq!(&whole, &parts);
        prop_assert_eq!(CLIP.encode(&text.to_uppercase()), Ok(whole));
    }

    #[test]
    fn references_of_any_shape_are_survived(text in "[&#;xX0-9a-zA-Z\u{e9} ]{0,40}") {
        let _ = unescape(&text);
        let _ = unescape_certain(&text);
        let _ = repair(&text);
    }
}
