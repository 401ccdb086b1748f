//! The image tower as ONNX operations.

use super::graph::{GraphBuilder, Value};
use super::{last_axis, over_tokens, patches, to_float};
use crate::model::backbone_config::Pool;
use crate::model::export::{ExportedBlock, ExportedModel};
use crate::model::layers::Activation;
use crate::model::tower::Field;
use crate::model::tuners::{BottleneckTensors, TunerModule};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};
use tch::Tensor;

/// Bytes `[images, 3, side, side]` to features `[images, width]`.
pub(super) fn features(graph: &mut GraphBuilder, model: &ExportedModel, images: &Value) -> Value {
    let mut x = stem(graph, model, images);
    for (index, block) in model.blocks.iter().enumerate() {
        let is_last = index + 1 == model.blocks.len();
        x = BlockNodes { model, block, one_row: is_last && model.config.pool == Pool::Token }.build(graph, x);
    }
    finish(graph, model, &x)
}

fn stem(graph: &mut GraphBuilder, model: &ExportedModel, images: &Value) -> Value {
    let (stem, shape, pixels) = (&model.stem, &model.shape, &model.config.pixels);
    let x = graph.node("Cast", &[images], to_float());
    let white = graph.number(255.0);
    let x = graph.plain("Div", &[&x, &white]);
    let per_channel = |values: &[f64; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]);
    let (mean, std) = (graph.constant(&per_channel(&pixels.mean)), graph.constant(&per_channel(&pixels.std)));
    let x = graph.plain("Sub", &[&x, &mean]);
    let x = graph.plain("Div", &[&x, &std]);
    let mut inputs = vec![x, graph.constant(&stem.patches)];
    inputs.extend(stem.bias.as_ref().map(|bias| graph.constant(bias)));
    let x = graph.node("Conv", &inputs.iter().collect::<Vec<_>>(), patches(shape.patch));
    let x = graph.reshape(&x, &[0, shape.width, -1]);
    let x = graph.transpose(&x, &[0, 2, 1]);
    let positions = graph.constant(&model.patch_positions());
    let mut x = graph.plain("Add", &[&x, &positions]);
    if let Some(prefix) = model.prefix() {
        let prefix = graph.for_each_image(&prefix, &x);
        x = graph.concat(&[&prefix, &x], 1);
    }
    match &stem.norm {
        Some((weight, bias)) => graph.norm(&x, (weight, bias), model.config.vision.norm_eps),
        None => x,
    }
}

/// One block.
struct BlockNodes<'a> {
    model: &'a ExportedModel,
    block: &'a ExportedBlock,
    /// Only the first token of its output is used.
    one_row: bool,
}

impl BlockNodes<'_> {
    fn build(&self, graph: &mut GraphBuilder, mut x: Value) -> Value {
        for module in &self.block.modules {
            if let TunerModule::Prompts(prompts) = module {
                let own = graph.slice(&x, 1, 0..self.model.shape.tokens);
                let prompts = graph.for_each_image(prompts, &own);
                x = graph.concat(&[&own, &prompts], 1);
            }
        }
        let normed = self.norm(graph, &x, Field::Norm1Weight, Field::Norm1Bias);
        let attended = self.attention(graph, &normed);
        if self.one_row {
            x = graph.slice(&x, 1, 0..1);
        }
        let y = self.linear(graph, &attended, Field::ProjWeight, Field::ProjBias);
        let y = self.scaled(graph, y, Field::Scale1);
        let x = graph.plain("Add", &[&x, &y]);
        let read = self.norm(graph, &x, Field::Norm2Weight, Field::Norm2Bias);
        let hidden = self.linear(graph, &read, Field::Fc1Weight, Field::Fc1Bias);
        let hidden = activation(graph, self.model.config.vision.activation, &hidden);
        let y = self.linear(graph, &hidden, Field::Fc2Weight, Field::Fc2Bias);
        let mut y = self.scaled(graph, y, Field::Scale2);
        for module in &self.block.modules {
            if let TunerModule::AfterMlp(tensors) = module {
                let added = bottleneck(graph, &y, tensors);
                y = graph.plain("Add", &[&y, &added]);
            }
        }
        let mut out = graph.plain("Add", &[&x, &y]);
        for module in &self.block.modules {
            if let TunerModule::BesideMlp(tensors) = module {
                let added = bottleneck(graph, &x, tensors);
                out = graph.plain("Add", &[&out, &added]);
            }
        }
        out
    }

    fn norm(&self, graph: &mut GraphBuilder, x: &Value, weight: Field, bias: Field) -> Value {
        let tensors = &self.block.tensors;
        graph.norm(x, (&tensors[&weight], &tensors[&bias]), self.model.config.vision.norm_eps)
    }

    fn linear(&self, graph: &mut GraphBuilder, x: &Value, weight: Field, bias: Field) -> Value {
        let tensors = &self.block.tensors;
        graph.linear(x, &tensors[&weight], Some(&tensors[&bias]))
    }

    fn scaled(&self, graph: &mut GraphBuilder, y: Value, scale: Field) -> Value {
        let Some(scale) = self.block.tensors.get(&scale) else { return y };
        let scale = graph.constant(scale);
        graph.plain("Mul", &[&y, &scale])
    }

    fn attention(&self, graph: &mut GraphBuilder, normed: &Value) -> Value {
        let width = self.model.shape.width;
        let (weight, bias) = (&self.block.tensors[&Field::QkvWeight], &self.block.tensors[&Field::QkvBias]);
        let first = if self.one_row { graph.slice(normed, 1, 0..1) } else { normed.clone() };
        let part = |graph: &mut GraphBuilder, x: &Value, number: i64| {
            let rows = |tensor: &Tensor| tensor.narrow(0, number * width, width);
            graph.linear(x, &rows(weight), Some(&rows(bias)))
        };
        let q = part(graph, &first, 0);
        let (k, v) = (part(graph, normed, 1), part(graph, normed, 2));
        scaled_dot_product(graph, [&q, &k, &v], (width, self.model.config.vision.heads))
    }
}

/// Attention of `[images, tokens, width]` each.
fn scaled_dot_product(graph: &mut GraphBuilder, [q, k, v]: [&Value; 3], (width, heads): (i64, i64)) -> Value {
    let head_width = width / heads;
    let split = |graph: &mut GraphBuilder, x: &Value, order: &[i64]| {
        let x = graph.reshape(x, &[0, 0, heads, head_width]);
        graph.transpose(&x, order)
    };
    let q = split(graph, q, &[0, 2, 1, 3]);
    let scale = graph.number((head_width as f64).sqrt().recip());
    let q = graph.plain("Mul", &[&q, &scale]);
    let k = split(graph, k, &[0, 2, 3, 1]);
    let v = split(graph, v, &[0, 2, 1, 3]);
    let scores = graph.plain("MatMul", &[&q, &k]);
    let weights = graph.node("Softmax", &[&scores], last_axis());
    let attended = graph.plain("MatMul", &[&weights, &v]);
    let attended = graph.transpose(&attended, &[0, 2, 1, 3]);
    graph.reshape(&attended, &[0, 0, width])
}

fn bottleneck(graph: &mut GraphBuilder, x: &Value, tensors: &BottleneckTensors) -> Value {
    let BottleneckTensors { norm, epsilon, down, up } = tensors;
    let x = graph.norm(x, (&norm.0, &norm.1), *epsilon);
    let x = graph.linear(&x, &down.0, Some(&down.1));
    let x = graph.plain("Relu", &[&x]);
    graph.linear(&x, &up.0, Some(&up.1))
}

fn activation(graph: &mut GraphBuilder, activation: Activation, x: &Value) -> Value {
    let times = |graph: &mut GraphBuilder, x: &Value, factor: f64| {
        let factor = graph.number(factor);
        graph.plain("Mul", &[x, &factor])
    };
    match activation {
        Activation::QuickGelu => {
            let gate = times(graph, x, 1.702);
            let gate = graph.plain("Sigmoid", &[&gate]);
            graph.plain("Mul", &[x, &gate])
        }
        Activation::Gelu => {
            let y = times(graph, x, FRAC_1_SQRT_2);
            let y = graph.plain("Erf", &[&y]);
            half_of_one_plus(graph, x, &y)
        }
        Activation::GeluTanh => {
            let square = graph.plain("Mul", &[x, x]);
            let cube = graph.plain("Mul", &[&square, x]);
            let cube = times(graph, &cube, 0.044_715);
            let y = graph.plain("Add", &[x, &cube]);
            let y = times(graph, &y, FRAC_2_PI.sqrt());
            let y = graph.plain("Tanh", &[&y]);
            half_of_one_plus(graph, x, &y)
        }
    }
}

/// `x (1 + y) / 2`.
fn half_of_one_plus(graph: &mut GraphBuilder, x: &Value, y: &Value) -> Value {
    let (one, half) = (graph.number(1.0), graph.number(0.5));
    let y = graph.plain("Add", &[y, &one]);
    let y = graph.plain("Mul", &[x, &y]);
    graph.plain("Mul", &[&y, &half])
}

/// Hidden state after the last block to features.
fn finish(graph: &mut GraphBuilder, model: &ExportedModel, x: &Value) -> Value {
    let (shape, epsilon) = (&model.shape, model.config.vision.norm_eps);
    let (weight, bias) = (&model.norm.0, &model.norm.1);
    if model.config.pool == Pool::Token {
        let x = graph.norm(x, (weight, bias), epsilon);
        return graph.reshape(&x, &[0, shape.width]);
    }
    let x = graph.slice(x, 1, shape.prefix()..shape.prefix() + shape.patches());
    let x = graph.norm(&x, (weight, bias), epsilon);
    if model.config.pool == Pool::Average {
        return graph.node("ReduceMean", &[&x], over_tokens());
    }
    attention_pool(graph, model, &x)
}

fn attention_pool(graph: &mut GraphBuilder, model: &ExportedModel, x: &Value) -> Value {
    let (width, vision) = (model.shape.width, model.config.vision);
    let get = |name: &str| {
        let found = model.pool.iter().find(|(own, _)| own == name);
        found.map(|(_, tensor)| tensor.shallow_clone()).expect("attention pooling has all of its tensors")
    };
    let layer = |name: &str| (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
    let (weight, bias) = layer("q");
    let q = get("latent").view([1, width]).linear(&weight, Some(&bias));
    let q = graph.for_each_image(&q, x);
    let (weight, bias) = layer("kv");
    let part = |graph: &mut GraphBuilder, number: i64| {
        let rows = |tensor: &Tensor| tensor.narrow(0, number * width, width);
        graph.linear(x, &rows(&weight), Some(&rows(&bias)))
    };
    let (k, v) = (part(graph, 0), part(graph, 1));
    let attended = scaled_dot_product(graph, [&q, &k, &v], (width, vision.heads));
    let attended = graph.reshape(&attended, &[0, width]);
    let (weight, bias) = layer("proj");
    let y = graph.linear(&attended, &weight, Some(&bias));
    let (weight, bias) = layer("norm");
    let read = graph.norm(&y, (&weight, &bias), vision.norm_eps);
    let (weight, bias) = layer("fc1");
    let hidden = graph.linear(&read, &weight, Some(&bias));
    let hidden = activation(graph, vision.activation, &hidden);
    let (weight, bias) = layer("fc2");
    let added = graph.linear(&hidden, &weight, Some(&bias));
    graph.plain("Add", &[&y, &added])
}
