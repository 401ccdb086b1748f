//! Text: the row of a class is the feature of a text about it, mapped to the width of image features by the transposed
//! projection, then scaled to unit length (LIFT, "semantic-aware initialisation").
//!
//! For several texts (an ensemble of sentences, descriptions) the mean of their unit features is used. The official
//! code does not scale that mean to unit length before the projection. Here it is scaled, which does not change the
//! direction of a row, and the rows are scaled afterwards in any case.

use super::templates::IMAGENET;
use super::{HeadInit, InitContext, InitFacts, MakeHeadInit};
use crate::config::Config;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::sources;
use crate::model::heads::prompt::{self, Prompt};
use crate::model::text::{TextTower, unit_rows};
use crate::model::tokenizer::{TokenizeError, Tokenizer, prompt};
use crate::options::{Declared, Method, OrFile};
use collectives::ReduceOp;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::{Tensor, no_grad};

/// Text.
pub const METHOD: Method<MakeHeadInit> = Method {
    word: "text",
    about: "Text features of the class names.",
    official: &["text_feat"],
    options: &[&Prompt::SECTION],
    make: |config| Ok(Box::new(Text { prompts: ClassPrompts::open(config)? })),
};

/// Texts per pass through the text tower, or those of one class if they are more. Fixed, so that the features do not
/// depend on the number of ranks.
const AT_ONCE: usize = 64;

/// The initialisation.
struct Text {
    prompts: ClassPrompts,
}

impl HeadInit for Text {
    fn check(&self, facts: &InitFacts<'_>) -> Result<(), Failure> {
        self.prompts.texts(facts.class_names).map(drop)
    }

    fn fingerprint(&self) -> Vec<u8> {
        self.prompts.fingerprint()
    }

    fn rows(&self, context: &InitContext<'_>) -> Result<Option<Tensor>, Failure> {
        let features = context.text_features(&self.prompts)?;
        let projection = context.model.tower().projection().ok_or_else(|| {
            Failure::input(
                "the weights have no projection into the space of texts\nhint: use head.init=class_mean",
            )
            .on_all_ranks()
        })?;
        Ok(Some(no_grad(|| rows_from_text(&features, projection))))
    }
}

/// Texts of classes.
#[derive(Debug, Clone)]
pub enum ClassPrompts {
    /// Sentences with a `{}` for the class name.
    Templates(Vec<String>),
    /// Texts of each class, from a file.
    Descriptions {
        /// The file.
        file: PathBuf,
        /// By class name.
        of_class: BTreeMap<String, Vec<String>>,
    },
}

impl ClassPrompts {
    /// Those that `head.prompts` and `head.prompt` name.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let Prompt { prompts, prompt } = config.options();
        Ok(match prompts {
            OrFile::Word(prompt::Prompts::Default) => Self::Templates(vec![prompt]),
            OrFile::Word(prompt::Prompts::Classname) => Self::Templates(vec!["{}".to_owned()]),
            OrFile::Word(prompt::Prompts::Ensemble) => Self::ensemble(),
            OrFile::File(path) => Self::read(&path)?,
        })
    }

    /// CLIP's sentences for ImageNet.
    pub fn ensemble() -> Self {
        Self::Templates(IMAGENET.map(str::to_owned).to_vec())
    }

    /// Descriptions from a JSON file: a list of texts for each class name.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let refuse = |reason: String| {
            Failure::input(format!(
                "head.prompts: {}: {reason}; expected JSON such as {{\"tench\": [\"a freshwater fish\", ...], ...}}",
                path.display()
            ))
        };
        let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
        let of_class = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        Ok(Self::Descriptions { file: path.to_owned(), of_class })
    }

    /// The texts of each class; a class without a description in the file is an error. An underscore in a name or a
    /// description is replaced by a space.
    pub fn texts(&self, class_names: &[String]) -> Result<Vec<Vec<String>>, Failure> {
        let (file, of_class) = match self {
            Self::Templates(templates) => {
                let texts = |name: &String| templates.iter().map(|template| prompt(template, name)).collect();
                return Ok(class_names.iter().map(texts).collect());
            }
            Self::Descriptions { file, of_class } => (file, of_class),
        };
        let spaced: BTreeMap<String, &Vec<String>> =
            of_class.iter().map(|(name, texts)| (prompt("{}", name), texts)).collect();
        let found = |name: &String| {
            let texts = of_class.get(name).or_else(|| spaced.get(&prompt("{}", name)).copied());
            texts.filter(|texts| !texts.is_empty())
        };
        let texts = |name| found(name).map(|texts| texts.iter().map(|text| prompt("{}", text)).collect());
        let all: Option<Vec<Vec<String>>> = class_names.iter().map(texts).collect();
        all.ok_or_else(|| missing(file, class_names, |name| found(name).is_some()))
    }

    fn fingerprint(&self) -> Vec<u8> {
        match self {
            Self::Templates(_) => Vec::new(),
            Self::Descriptions { of_class, .. } => Sha256::digest(format!("{of_class:?}")).to_vec(),
        }
    }
}

/// The error for a file that does not describe every class.
fn missing(file: &Path, class_names: &[String], is_there: impl Fn(&String) -> bool) -> Failure {
    let without: Vec<usize> =
        (0..class_names.len()).filter(|&class| !is_there(&class_names[class])).collect();
    let first = without.first().copied().unwrap_or(0);
    let others = match without.len().saturating_sub(1) {
        0 => String::new(),
        1 => ", nor for 1 other class".to_owned(),
        n => format!(", nor for {n} other classes"),
    };
    Failure::input(format!(
        "head.prompts: {} has no text for class {first} (`{}`){others}\nhint: add them, or use head.prompts=default",
        file.display(),
        class_names[first]
    ))
}

/// Some classes, and the tokens of their texts.
pub struct TextChunk {
    classes: Range<usize>,
    /// Texts of each class.
    sizes: Vec<i64>,
    /// `[texts, context]`.
    ids: Tensor,
}

impl TextChunk {
    /// One rank's chunks of the texts of all classes; chunks are assigned to ranks in turn.
    pub fn of_rank(
        texts: &[Vec<String>],
        (tokenizer, context): (&Tokenizer, i64),
        (rank, ranks): (usize, usize),
    ) -> Result<Vec<Self>, TokenizeError> {
        let own = cut(texts).into_iter().enumerate().filter(|(number, _)| number % ranks == rank);
        let chunk = |classes: Range<usize>| {
            let texts = &texts[classes.clone()];
            let sizes = texts.iter().map(|of_class| of_class.len() as i64).collect();
            let ids = tokenizer.tokenize(&texts.concat(), context as usize)?;
            let ids = Tensor::from_slice(&ids).view([-1, context]);
            Ok(Self { classes, sizes, ids })
        };
        own.map(|(_, classes)| chunk(classes)).collect()
    }

    /// Unit features of its classes, `[classes, joint]`.
    pub fn features(&self, tower: &TextTower) -> Tensor {
        let features = unit_rows(&tower.features(&self.ids.to_device(tower.positions.device())));
        if self.sizes.iter().all(|&size| size == 1) {
            return features;
        }
        let of_classes = features.split_with_sizes(&self.sizes[..], 0);
        let means: Vec<Tensor> = of_classes
            .iter()
            .map(|of_class| of_class.mean_dim([0i64].as_slice(), true, of_class.kind()))
            .collect();
        unit_rows(&Tensor::cat(&means, 0))
    }
}

/// Ranges of classes with at most this number of texts, each with at least one class.
fn cut(texts: &[Vec<String>]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut count = 0;
    for (class, of_class) in texts.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if count + of_class.len() <= AT_ONCE => run.end = class + 1,
            _ => {
                runs.push(class..class + 1);
                count = 0;
            }
        }
        count += of_class.len();
    }
    runs
}

/// Unit text features of the classes, `[classes, joint]`. Collective.
pub fn class_features(
    tower: Option<&TextTower>,
    prompts: &ClassPrompts,
    (config, class_names): (&Config, &[String]),
    rank: &Rank,
) -> Result<Tensor, Failure> {
    let tower = tower.ok_or_else(|| {
        Failure::input("the weights have no text tower\nhint: use head.init=class_mean, or a CLIP model")
            .on_all_ranks()
    })?;
    let chunks = agreed(&rank.control, || {
        let tokenizer = sources::tokenizer(config)?;
        let texts = prompts.texts(class_names)?;
        let of_rank = (rank.number(), rank.world_size());
        TextChunk::of_rank(&texts, (&tokenizer, tower.context()), of_rank).map_err(Failure::input)
    })?;
    let shape = [class_names.len() as i64, tower.projection.size()[1]];
    let mut all = Tensor::zeros(shape, (tower.projection.kind(), tower.positions.device()));
    for chunk in chunks {
        // Counts as progress for the liveness watch: there are no collective calls until all texts are done.
        let _entered = rank.activity.enter("batch");
        let (first, count) = (chunk.classes.start as i64, chunk.classes.len() as i64);
        no_grad(|| all.narrow(0, first, count).copy_(&chunk.features(tower)));
    }
    // Every row is non-zero on one rank only, so the sum is a bitwise copy.
    rank.group.all_reduce(&mut all, ReduceOp::Sum)?;
    Ok(all)
}

/// Rows of a head from text features: mapped to the width of image features by the transposed projection, then scaled
/// to unit length.
pub fn rows_from_text(text: &Tensor, projection: &Tensor) -> Tensor {
    unit_rows(&unit_rows(text).matmul(&projection.transpose(0, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn described(json: &str) -> (tempfile::TempDir, Result<ClassPrompts, Failure>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.json");
        std::fs::write(&path, json).unwrap();
        (folder, ClassPrompts::read(&path))
    }

    #[test]
    fn templates_are_filled_and_descriptions_are_found_by_name() {
        let ensemble = ClassPrompts::ensemble().texts(&names(&["red_fox"])).unwrap();
        assert_eq!((ensemble[0].len(), ensemble[0][0].as_str()), (80, "a bad photo of a red fox."));
        assert!(IMAGENET.iter().all(|template| template.matches("{}").count() == 1));
        let (_folder, prompts) = described(r#"{"red fox": ["a_tail", "fur"], "owl": ["wings"], "x": []}"#);
        let texts = prompts.unwrap().texts(&names(&["owl", "red_fox"])).unwrap();
        assert_eq!(texts, [vec!["wings"], vec!["a tail", "fur"]]);
    }

    #[test]
    fn a_class_without_description_is_refused_by_name() {
        let (folder, prompts) = described(r#"{"owl": ["wings"], "elk": []}"#);
        let error = prompts.unwrap().texts(&names(&["owl", "elk", "fox", "bee"])).unwrap_err();
        assert_eq!(
            error.message,
            format!(
                "head.prompts: {}/texts.json has no text for class 1 (`elk`), nor for 2 other classes\nhint: add them, or use head.prompts=default",
                folder.path().display()
            )
        );
        for json in ["{", "[]", r#"{"owl": "wings"}"#, r#"{"owl": [3]}"#] {
            let error = described(json).1.unwrap_err();
            assert!(
                error.message.contains("texts.json: ") && error.message.contains("expected JSON"),
                "{error}"
            );
        }
    }

    #[test]
    fn chunks_hold_whole_classes() {
        let texts = |sizes: &[usize]| sizes.iter().map(|&n| vec![String::new(); n]).collect::<Vec<_>>();
        assert_eq!(cut(&texts(&[1; 130])), [0..64, 64..128, 128..130]);
        assert_eq!(cut(&texts(&[80, 80])), [0..1, 1..2]);
        assert_eq!(cut(&texts(&[30, 30, 5, 70, 1])), [0..2, 2..3, 3..4, 4..5]);
        assert!(cut(&[]).is_empty());
    }
}
