//! Opens the files that a configuration names: the boundary between `config` and the modules that do not depend on it.

use crate::config::{
    CacheName, Config, DemoStyleName, EmbeddedName, FilterName, LayoutName, ModelKind, SamplerName,
};
use crate::data::demo::DemoStyle;
use crate::data::order::{Order, Sampler};
use crate::data::resize::Filter;
use crate::data::source::{CachePlace, DataLayout, DataSet, DataSpec, Halves};
use crate::demo;
use crate::engine::failure::Failure;
use crate::model::loading::has_text;
use crate::model::tokenizer::Tokenizer;
use crate::weights::{self, NamedTensors, normalise};
use std::path::Path;

/// Opens the data set that the configuration names.
pub fn open_data(config: &Config) -> Result<DataSet, Failure> {
    let data = &config.data;
    let layout = match data.layout {
        LayoutName::Demo => {
            let style = match data.demo_style {
                DemoStyleName::Cluttered => DemoStyle::Cluttered,
                DemoStyleName::FalseColour => DemoStyle::FalseColour,
            };
            return Ok(demo::styled_data_set(style, data.demo_seed));
        }
        LayoutName::Auto => DataLayout::Auto,
        LayoutName::Lists => DataLayout::Lists,
        LayoutName::Folders => DataLayout::Folders,
        LayoutName::Cifar100 => DataLayout::Cifar100,
        LayoutName::Table => DataLayout::Table,
        LayoutName::Parquet => DataLayout::Parquet,
        LayoutName::Shards => DataLayout::Shards,
        LayoutName::Annotations => DataLayout::Annotations,
        LayoutName::Packed => DataLayout::Packed,
    };
    let spec = DataSpec {
        root: required(data.root.as_deref(), "data.root", "the folder of the data set")?.to_owned(),
        layout,
        train_list: data.train_list.clone(),
        test_list: data.test_list.clone(),
        class_names: data.class_names.clone(),
        images: data.images.clone(),
        image_column: given(&data.image_column),
        label_column: given(&data.label_column),
        first_label: data.first_label,
        imbalance: data.imbalance.ratio(),
        test_limit: None,
        halves: data.split.clone().map_or(Halves::OfSource, Halves::Divided),
    };
    let set = DataSet::open(&spec).map_err(Failure::input)?;
    let set = match &data.cache {
        CacheName::None => set,
        CacheName::Memory => cached(set, &CachePlace::Memory, data.cache_limit)?,
        CacheName::Folder(folder) => cached(set, &CachePlace::Folder(folder.clone()), data.cache_limit)?,
    };
    Ok(match data.read_ahead as usize {
        0 => set,
        threads => {
            DataSet { train: set.train.read_ahead(threads), test: set.test.read_ahead(threads), ..set }
        }
    })
}

fn cached(set: DataSet, place: &CachePlace, gibibytes: f64) -> Result<DataSet, Failure> {
    let limit = (gibibytes * f64::from(1u32 << 30)) as u64;
    set.cached(place, limit).map_err(|error| {
        let folder = match place {
            CachePlace::Memory => String::new(),
            CachePlace::Folder(folder) => folder.display().to_string(),
        };
        Failure::input(format!("cannot use the folder `{folder}` as `data.cache`: {error}"))
    })
}

/// The order of the training samples.
pub fn open_order(config: &Config, labels: &[u32], classes: usize) -> Result<Order, Failure> {
    let options = &config.data;
    let sampler = match options.sampler {
        SamplerName::Instance => Sampler::Instance,
        SamplerName::ClassAware => Sampler::ClassAware { samples_per_class: options.samples_per_class },
        SamplerName::ClassBalanced => Sampler::ClassBalanced,
        SamplerName::SquareRoot => Sampler::SquareRoot,
        SamplerName::RepeatFactor => Sampler::RepeatFactor { threshold: options.repeat_threshold },
        SamplerName::Progressive => Sampler::Progressive { epochs: config.train.epochs.max(1) },
        SamplerName::NShot => Sampler::NShot { shots: options.shots },
    };
    Order::new(sampler, labels, classes, config.train.seed).map_err(Failure::input)
}

/// The backbone's tensors, in a layout that the model code supports.
pub fn open_weights(config: &Config) -> Result<(NamedTensors, weights::TensorLayout), Failure> {
    let tensors = if config.model.kind == ModelKind::Demo {
        match config.model.embedded {
            EmbeddedName::Patch4 => demo::weights(),
            EmbeddedName::Patch8 => demo::patch8_weights(),
        }
        .map_err(Failure::run)?
    } else {
        let path =
            required(config.model.weights.as_deref(), "model.weights", "the file or folder of the backbone")?;
        NamedTensors::open(path).map_err(Failure::input)?
    };
    let (tensors, layout) = normalise(tensors).map_err(Failure::input)?;
    // A ViT is an image tower, and so is a CLIP without its text tower.
    let fits = match layout {
        weights::TensorLayout::TimmVit => config.model.kind == ModelKind::Vit,
        weights::TensorLayout::OpenAiClip => config.model.kind != ModelKind::Vit || !has_text(&tensors),
    };
    if fits {
        return Ok((tensors, layout));
    }
    Err(Failure::input(format!(
        "{} contains {layout}, which does not match model.kind `{}`\nhint: choose the -m of that model, or another file",
        tensors.file(),
        config.model.kind
    )))
}

/// The tokenizer of the text tower.
pub fn tokenizer(config: &Config) -> Result<Tokenizer, Failure> {
    if config.model.kind == ModelKind::Demo {
        Ok(demo::tokenizer())
    } else {
        Tokenizer::clip().map_err(Failure::run)
    }
}

/// The filter of every resize.
pub fn filter(config: &Config) -> Filter {
    match config.model.filter {
        FilterName::Bilinear => Filter::Bilinear,
        FilterName::Bicubic => Filter::Bicubic,
    }
}

/// A text that is set.
fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn required<'a>(path: Option<&'a Path>, key: &str, what: &str) -> Result<&'a Path, Failure> {
    path.ok_or_else(|| Failure::input(format!("{key} is not set\nhint: give {what} with `--set {key}=PATH`")))
}
