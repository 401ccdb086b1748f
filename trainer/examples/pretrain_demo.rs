//! Pretrains the embedded demo's CLIP on captioned drawings, and writes its weights.
//!
//!     cargo run --release --example pretrain_demo -- assets/demo_clip_patch8.safetensors
//!
//! The drawings show compositions that are not classes of the demo (`data::demo`). The objective is CLIP's contrastive
//! loss, where all captions with the same composition as an image are positives. With the same seed, steps and thread
//! count, the output is the same file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use tch::{Device, Kind, Tensor, no_grad};
use trainer::data::demo::{SIDE, pretraining_example};
use trainer::model::backbone_config::BackboneConfig;
use trainer::model::loading::{Backbone, LoadOptions, load};
use trainer::model::precision::Precision;
use trainer::model::text::unit_rows;
use trainer::model::trainables::{Init, ParameterSpec, Trainables};
use trainer::model::tuners::TunerSet;
use trainer::model::vision::PixelNorm;
use trainer::weights::{NamedTensors, TensorLayout};

const SEED: u64 = 1;
const STEPS: u64 = 900;
const WARM_UP: u64 = 50;
const BATCH: u64 = 192;
const LEARNING_RATE: f64 = 1.5e-3;
const WEIGHT_DECAY: f64 = 0.05;

/// Sizes of the model. Patches of 8 pixels make 17 tokens, which cost a quarter of the 65 of 4-pixel patches.
const IMAGE: Tower = Tower { width: 128, layers: 3 };
const TEXT: Tower = Tower { width: 64, layers: 2 };
const PATCH: i64 = 8;
const JOINT: i64 = 64;
const CONTEXT: i64 = 16;
/// Initial scale of the cosine similarities, as in CLIP.
const INITIAL_SCALE: f64 = 1.0 / 0.07;

/// Name of the random matrix whose orthonormal basis is the projection. It gets no gradient.
const PROJECTION_DRAW: &str = "projection draw";

struct Tower {
    width: i64,
    layers: i64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let output = std::env::args()
        .nth(1)
        .map_or_else(|| PathBuf::from("assets/demo_clip_patch8.safetensors"), PathBuf::from);
    tch::set_num_threads(1);
    let tokenizer = trainer::demo::tokenizer();
    let vocabulary = tokenizer.vocabulary() as i64;
    let parameters = Trainables::new(specs(vocabulary), Kind::Float, Device::Cpu, SEED);
    let projection = projection(&parameters);
    let pixels = PixelNorm::new([0.5; 3], [0.5; 3], Kind::Float, Device::Cpu);
    let mut optimiser = AdamW::new(&parameters);
    let start = Instant::now();
    for step in 0..STEPS {
        let batch = Batch::draw(step, &tokenizer)?;
        // Loading copies the values, so the towers of a step are made from the parameters after the step before.
        let backbone = towers(&parameters, &projection)?;
        let _ = parameters.gradient().zero_();
        let loss = contrastive_loss(&backbone, &pixels, &batch);
        loss.backward();
        optimiser.step(&parameters, learning_rate(step));
        if step % 50 == 0 || step + 1 == STEPS {
            let seconds = start.elapsed().as_secs_f64();
            println!("step {step}/{STEPS} loss {:.4} {seconds:.0} s", loss.double_value(&[]));
        }
    }
    write(&output, tensors(&parameters, &projection))?;
    println!("wrote {}", output.display());
    Ok(())
}

/// Images, token ids, and the composition of each image and caption.
struct Batch {
    images: Tensor,
    ids: Tensor,
    compositions: Tensor,
}

impl Batch {
    fn draw(
        step: u64,
        tokenizer: &trainer::model::tokenizer::Tokenizer,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let examples: Vec<_> = (0..BATCH).map(|i| pretraining_example(SEED, step * BATCH + i)).collect();
        let pixels: Vec<u8> = examples.iter().flat_map(|e| e.image.pixels.iter().copied()).collect();
        let side = SIDE as i64;
        let images = Tensor::from_slice(&pixels).view([BATCH as i64, side, side, 3]).permute([0, 3, 1, 2]);
        let captions: Vec<String> = examples.iter().map(|e| e.caption.clone()).collect();
        let ids = Tensor::from_slice(&tokenizer.tokenize(&captions, CONTEXT as usize)?);
        let compositions: Vec<i64> = examples.iter().map(|e| e.composition.id() as i64).collect();
        Ok(Self {
            images: images.contiguous(),
            ids: ids.view([BATCH as i64, CONTEXT]),
            compositions: Tensor::from_slice(&compositions),
        })
    }

    /// Target distributions, `[images, captions]`: equal probability for every caption with the composition of the
    /// image.
    fn targets(&self) -> Tensor {
        let same =
            self.compositions.view([-1, 1]).eq_tensor(&self.compositions.view([1, -1])).to_kind(Kind::Float);
        &same / same.sum_dim_intlist([1i64].as_slice(), true, Kind::Float)
    }
}

fn contrastive_loss(backbone: &Backbone, pixels: &PixelNorm, batch: &Batch) -> Tensor {
    let Backbone { vision, text: Some(text), .. } = backbone else {
        unreachable!("the layout has two towers")
    };
    let features = vision.features(&pixels.forward(&batch.images));
    let projection = vision.project(&features);
    let image = unit_rows(&projection.unwrap_or(features));
    let caption = unit_rows(&text.features(&batch.ids));
    let logits = image.matmul(&caption.transpose(0, 1)) * text.scale();
    let targets = batch.targets();
    let one_direction =
        |logits: &Tensor| -(logits.log_softmax(1, Kind::Float) * &targets).sum(Kind::Float) / BATCH as f64;
    (one_direction(&logits) + one_direction(&logits.transpose(0, 1))) / 2.0
}

fn learning_rate(step: u64) -> f64 {
    if step < WARM_UP {
        return LEARNING_RATE * (step + 1) as f64 / WARM_UP as f64;
    }
    let done = (step - WARM_UP) as f64 / (STEPS - WARM_UP) as f64;
    LEARNING_RATE * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
}

/// AdamW (Loshchilov and Hutter, 2019) over the flat buffer.
struct AdamW {
    mean: Tensor,
    square: Tensor,
    steps: i32,
}

impl AdamW {
    fn new(parameters: &Trainables) -> Self {
        Self { mean: parameters.flat().zeros_like(), square: parameters.flat().zeros_like(), steps: 0 }
    }

    fn step(&mut self, parameters: &Trainables, learning_rate: f64) {
        const BETAS: (f64, f64) = (0.9, 0.98);
        self.steps += 1;
        no_grad(|| {
            let (mut flat, gradient) = (parameters.flat(), parameters.gradient());
            let _ = self.mean.g_mul_scalar_(BETAS.0).g_add_(&(&gradient * (1.0 - BETAS.0)));
            let _ = self.square.g_mul_scalar_(BETAS.1).g_add_(&(gradient.square() * (1.0 - BETAS.1)));
            let mean = &self.mean / (1.0 - BETAS.0.powi(self.steps));
            let square = &self.square / (1.0 - BETAS.1.powi(self.steps));
            let _ = flat.g_mul_scalar_(1.0 - learning_rate * WEIGHT_DECAY);
            let _ = flat.g_sub_(&(mean / (square.sqrt() + 1e-8) * learning_rate));
        });
    }
}

/// The projection of image features, `[width, joint]`, with orthonormal columns. It is not trained: with such columns, the
/// class rows that a head takes from text (`W = T P^T`) rank the classes as zero-shot prediction does.
fn projection(parameters: &Trainables) -> Tensor {
    let drawn = parameters.get(PROJECTION_DRAW).expect("a tensor of `specs`");
    no_grad(|| Tensor::linalg_qr(&drawn, "reduced").0)
}

/// All tensors of the model, with the names of OpenAI's checkpoints.
fn tensors(parameters: &Trainables, projection: &Tensor) -> BTreeMap<String, Tensor> {
    let trained = parameters.iter().filter(|(name, _)| *name != PROJECTION_DRAW);
    let mut tensors: BTreeMap<String, Tensor> =
        trained.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
    tensors.insert("visual.proj".to_owned(), projection.shallow_clone());
    tensors
}

/// A backbone whose tensors are the trainable tensors, and the projection.
fn towers(parameters: &Trainables, projection: &Tensor) -> Result<Backbone, Box<dyn std::error::Error>> {
    let tensors = tensors(parameters, projection);
    let named = NamedTensors::from_tensors("pretraining", tensors);
    let options = LoadOptions {
        precision: Precision::FP32,
        device: Device::Cpu,
        config: BackboneConfig::of_layout(&named, TensorLayout::OpenAiClip, SIDE as u32)?,
        part: None,
    };
    Ok(load(&named, TensorLayout::OpenAiClip, &options, &TunerSet::default())?)
}

/// All tensors of the model, initialised with the standard deviations of CLIP.
fn specs(vocabulary: i64) -> Vec<ParameterSpec> {
    let patches = (SIDE as i64 / PATCH).pow(2);
    let (image, text) = (IMAGE.width, TEXT.width);
    let inverse_root = |n: i64| 1.0 / (n as f64).sqrt();
    let mut specs = Specs(Vec::new());
    specs.normal("visual.conv1.weight", &[image, 3, PATCH, PATCH], inverse_root(3 * PATCH * PATCH));
    specs.normal("visual.class_embedding", &[image], inverse_root(image));
    specs.normal("visual.positional_embedding", &[1 + patches, image], inverse_root(image));
    specs.norm("visual.ln_pre", image);
    specs.blocks("visual.transformer.resblocks", &IMAGE);
    specs.norm("visual.ln_post", image);
    specs.normal(PROJECTION_DRAW, &[image, JOINT], 1.0);
    specs.normal("token_embedding.weight", &[vocabulary, text], 0.02);
    specs.normal("positional_embedding", &[CONTEXT, text], 0.01);
    specs.blocks("transformer.resblocks", &TEXT);
    specs.norm("ln_final", text);
    specs.normal("text_projection", &[text, JOINT], inverse_root(text));
    specs.push("logit_scale", &[], Init::Value(Tensor::from(INITIAL_SCALE.ln())));
    specs.0
}

struct Specs(Vec<ParameterSpec>);

impl Specs {
    fn push(&mut self, name: &str, shape: &[i64], init: Init) {
        self.0.push(ParameterSpec::new(name.to_owned(), shape, init));
    }

    fn normal(&mut self, name: &str, shape: &[i64], std: f64) {
        self.push(name, shape, Init::Normal { mean: 0.0, std });
    }

    fn norm(&mut self, name: &str, width: i64) {
        self.push(&format!("{name}.weight"), &[width], Init::Ones);
        self.push(&format!("{name}.bias"), &[width], Init::Zeros);
    }

    fn blocks(&mut self, prefix: &str, tower: &Tower) {
        let (width, layers) = (tower.width, tower.layers);
        let attention = 1.0 / (width as f64).sqrt();
        let into_residual = attention / (2.0 * layers as f64).sqrt();
        let hidden = 1.0 / (2.0 * width as f64).sqrt();
        for i in 0..layers {
            let name = |part: &str| format!("{prefix}.{i}.{part}");
            self.norm(&name("ln_1"), width);
            self.normal(&name("attn.in_proj_weight"), &[3 * width, width], attention);
            self.push(&name("attn.in_proj_bias"), &[3 * width], Init::Zeros);
            self.normal(&name("attn.out_proj.weight"), &[width, width], into_residual);
            self.push(&name("attn.out_proj.bias"), &[width], Init::Zeros);
            self.norm(&name("ln_2"), width);
            self.normal(&name("mlp.c_fc.weight"), &[4 * width, width], hidden);
            self.push(&name("mlp.c_fc.bias"), &[4 * width], Init::Zeros);
            self.normal(&name("mlp.c_proj.weight"), &[width, 4 * width], into_residual);
            self.push(&name("mlp.c_proj.bias"), &[width], Init::Zeros);
        }
    }
}

/// Writes the weights in half precision, like CLIP's own files; this halves the size.
fn write(
    path: &std::path::Path,
    tensors: BTreeMap<String, Tensor>,
) -> Result<(), Box<dyn std::error::Error>> {
    let metadata = BTreeMap::from([
        ("made_by".to_owned(), "cargo run --release --example pretrain_demo".to_owned()),
        ("seed".to_owned(), SEED.to_string()),
        ("steps".to_owned(), STEPS.to_string()),
        ("batch".to_owned(), BATCH.to_string()),
    ]);
    let tensors: Vec<_> = tensors.into_iter().collect();
    trainer::weights::trained::write(path, &tensors, Kind::Half, metadata)?;
    Ok(())
}
