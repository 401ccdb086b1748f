//! Tests of the declarations, by a section and a registry of their own.

use super::*;
use std::ops::Bound::{Excluded, Included};
use std::path::PathBuf;
use toml::Value;

section! {
    /// Options of a method
    /// that is none.
    pub struct Sample in "sample" {
        /// How many. Not a few.
        #[range(1..=8)]
        #[needs(one_of("sample.colour", &["red", "blue"]), MANY)]
        #[resume(Free)]
        #[formerly("sample.number")]
        pub count: u32 = 3,
        /// A share.
        #[range((Excluded(0.0), Included(1.0)))]
        pub share: f64 = 0.5,
        /// An even number.
        #[range(|even| even % 2 == 0, "an even number")]
        pub even: u64 = 2,
        /// A file.
        #[starts_at("sample.folder")]
        pub file: Option<PathBuf> = None,
        /// A colour, or a file of colours.
        pub colour: OrFile<Colour> = OrFile::Word(Colour::Red),
        /// Nothing more is known of it.
        pub plain: bool = true,
    }
}

const MANY: Needs =
    holds("sample.even", "from 4", |values| values.of::<u64>("sample.even").is_some_and(|even| even >= 4))
        .documented_elsewhere();

words! {
    /// Colours.
    pub enum Colour {
        /// As blood.
        Red = "red",
        /// As the sky.
        Blue = "blue",
    }
}

#[derive(Debug)]
enum Sizes {}

const SMALL: Method<u32> =
    Method { word: "small", about: "Small.", official: &["S"], options: &[&Sample::SECTION], make: 1 };
const LARGE: Method<u32> = Method { word: "large", about: "Large.", official: &[], options: &[], make: 9 };

impl Registry for Sizes {
    type Make = u32;
    const KEY: &'static str = "sample.size";
    const METHODS: &'static [&'static Method<u32>] = &[&SMALL, &LARGE];
    const NONE: &'static str = "No size.";
}

fn key(short: &str) -> OptionKey {
    *Sample::SECTION.keys.iter().find(|key| key.short == short).unwrap()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[test]
fn a_key_has_all_that_stands_beside_its_field() {
    let count = key("count");
    assert_eq!((count.name, count.summary().as_str()), ("sample.count", "How many"));
    assert_eq!((count.default)(), Value::Integer(3));
    assert_eq!((count.on_resume, count.formerly), (OnResume::Free, Some("sample.number")));
    let causes: Vec<_> = count.needs.iter().map(|needs| (needs.cause, needs.is_documented)).collect();
    assert_eq!(causes, [("sample.colour", true), ("sample.even", false)]);
    assert_eq!(key("file").starts_at, Some("sample.folder"));
    assert!((key("file").is_path)(&text("a")) && !(key("file").is_path)(&text("")));
    let plain = key("plain");
    assert!(plain.limit.is_none() && plain.needs.is_empty() && plain.on_resume == OnResume::Part);
    assert_eq!(sentences(Sample::SECTION.about), "Options of a method that is none.");
}

#[test]
fn ranges_hold_and_say_themselves() {
    let limit = |short: &str| key(short).limit.unwrap();
    assert_eq!((limit("count").words)(), "from 1 to 8");
    assert_eq!((limit("share").words)(), "above 0 and at most 1");
    assert_eq!((limit("even").words)(), "an even number");
    let holds = |short: &str, value: Value| (limit(short).holds)(&value);
    assert!(holds("count", Value::Integer(8)) && !holds("count", Value::Integer(9)));
    assert!(holds("share", Value::Float(1.0)) && !holds("share", Value::Float(0.0)));
    assert!(holds("even", Value::Integer(4)) && !holds("even", Value::Integer(5)));
    assert_eq!(limit::words::<u64>(&(1..)), "at least 1");
    assert_eq!(limit::words::<u64>(&(..=1 << 40)), "at most 2^40");
    assert_eq!(limit::words::<f64>(&(0.0..1.0)), "at least 0 and below 1");
    assert_eq!(limit::words::<f64>(&above(0.0)), "above 0");
    assert_eq!(limit::words::<f64>(&(0.1..=1e8)), "from 0.1 to 100000000");
}

#[test]
fn values_are_of_the_type_of_their_keys() {
    let mut values = Values::default();
    assert!(!values.set(&key("count"), &text("many")));
    assert_eq!(values.read::<Sample>(), Sample::default());
    assert!(values.set(&key("count"), &Value::Integer(7)));
    // A whole number is written as the float that the key takes.
    assert!(values.set(&key("share"), &Value::Integer(1)));
    assert_eq!(values.get("sample.share"), Some(&Value::Float(1.0)));
    let sample = Sample { count: 7, share: 1.0, ..Sample::default() };
    assert_eq!(values.read::<Sample>(), sample);
    let mut written = Values::default();
    written.put_all(&sample);
    assert_eq!(written.read::<Sample>(), sample);
    assert_eq!(written.only(|name| name == "sample.count").get("sample.share"), None);
}

#[test]
fn conditions_hold_and_say_themselves() {
    let mut values = Values::default();
    values.put_all(&Sample::default());
    let [colour, many] = key("count").needs else { panic!("expected two conditions") };
    assert!(colour.hold(&values) && !many.hold(&values));
    assert!(!none_of("sample.colour", &["red"]).hold(&values));
    assert!(
        none_of("sample.absent", &["red"]).hold(&values) && !one_of("sample.absent", &["red"]).hold(&values)
    );
    assert_eq!(colour.sentence(), "with `sample.colour = \"red\"` or `\"blue\"`");
    assert_eq!(none_of("a.b", &["c"]).sentence(), "unless `a.b = \"c\"`");
    assert_eq!(settings("a.b", &["c", "d", "e"]), "`a.b = \"c\"`, `\"d\"` or `\"e\"`");
    assert_eq!(many.sentence(), "from 4");
}

#[test]
fn a_word_or_a_file() {
    let read = |value: &str| OrFile::<Colour>::read(&text(value));
    assert_eq!(read("red"), Some(OrFile::Word(Colour::Red)));
    for path in ["colours.json", "folder/colours", "/red", "./red"] {
        assert_eq!(read(path), Some(OrFile::File(PathBuf::from(path))), "{path}");
        assert!((key("colour").is_path)(&text(path)) && read(path).unwrap().write() == text(path));
    }
    assert_eq!((read("rde"), read(""), read("a\0.b")), (None, None, None));
    assert!(!(key("colour").is_path)(&text("red")));
    assert_eq!((key("colour").words)().len(), 2);
}

#[test]
fn a_registry_is_a_choice_of_words() {
    let small = Chosen::<Sizes>::read(&text("small")).unwrap();
    assert!(small.is(&SMALL) && !small.is(&LARGE) && small == Chosen::of(&SMALL));
    assert_eq!((small.method().make, small.to_string()), (1, "small".to_owned()));
    assert_eq!(Chosen::<Sizes>::read(&text("medium")), None);
    assert_eq!(Chosen::<Sizes>::expected(), "one of `small`, `large`");
    let words = Several::<Sizes>::words();
    assert_eq!(words.iter().map(|word| word.word).collect::<Vec<_>>(), ["small", "large", "none"]);
    assert_eq!(words.last().map(|word| word.about), Some(["No size."].as_slice()));
    let described: Vec<_> =
        Description::all::<Sizes>().map(|one| (one.key, one.word, one.official)).collect();
    assert_eq!(described, [("sample.size", "small", ["S"].as_slice()), ("sample.size", "large", &[])]);
}

#[test]
fn several_methods_are_written_as_short_as_can_be() {
    let list = |words: &[&str]| Value::Array(words.iter().map(|word| text(word)).collect());
    let read = Several::<Sizes>::read;
    let written = |value: &Value| read(value).map(|several| several.write());
    assert_eq!(written(&list(&[])), Some(text("none")));
    assert_eq!(written(&list(&["large"])), Some(text("large")));
    assert_eq!(written(&list(&["large", "small"])), Some(list(&["large", "small"])));
    assert_eq!(read(&text("none")), Some(Several::none()));
    assert_eq!(read(&list(&["none"])), Some(Several::none()));
    for wrong in [list(&["large", "large"]), list(&["none", "large"]), text("medium"), Value::Integer(1)] {
        assert_eq!(read(&wrong), None, "{wrong}");
    }
    let both = read(&list(&["large", "small"])).unwrap();
    assert_eq!(both.iter().map(|method| method.make).collect::<Vec<_>>(), [9, 1]);
    assert!(both.contains(&SMALL) && !both.is_none());
}
