//! An ONNX file: from bytes `[images, 3, side, side]` to logits `[images, classes]`, with the normalisation of pixels, the
//! modules of tuners and the head as nodes. Only standard operators of opset 17.

mod graph;
mod proto;
mod tower;

use super::{ExportError, ExportedFile, ExportedModel, FileContent};
use crate::model::heads::HeadInput;
use graph::{GraphBuilder, Value, described, integer, integers};
use prost::Message;
use proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto, UINT8};
use serde_json::json;

/// First version of the operators with layer normalisation.
const OPSET: i64 = 17;
/// Version of the format that belongs to it.
const IR_VERSION: i64 = 8;
/// Protocol buffers have no larger message.
const MOST_BYTES: u64 = (1 << 31) - 1;

/// The file.
pub fn files(model: &ExportedModel) -> Result<Vec<ExportedFile>, ExportError> {
    let mut graph = GraphBuilder::default();
    let side = i64::from(model.config.resolution);
    let images = "images".to_owned();
    let features = tower::features(&mut graph, model, &images);
    let logits = head(&mut graph, model, &features);
    let input = described(&images, UINT8, &[3, side, side]);
    let graph = graph.finish(input, (&logits, model.class_names.len() as i64));
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
    let proto = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "lift-trainer".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: vec![
            entry("class_names", json!(model.class_names).to_string()),
            entry("resize", model.view.resize.to_string()),
            entry("filter", model.view.filter.clone()),
        ],
    };
    let bytes = proto.encoded_len() as u64;
    if bytes > MOST_BYTES {
        return Err(ExportError::TooLarge { bytes });
    }
    Ok(vec![ExportedFile { name: "model.onnx", content: FileContent::Bytes(proto.encode_to_vec()) }])
}

/// From features to logits.
fn head(graph: &mut GraphBuilder, model: &ExportedModel, features: &Value) -> Value {
    let head = &model.head;
    let mut x = features.clone();
    if let Some(projection) = &head.projection {
        x = graph.linear(&x, &projection.tr(), None);
    }
    x = match head.input {
        HeadInput::AsIs => x,
        HeadInput::UnitLength => {
            let length = graph.node("ReduceL2", &[&x], vec![integers("axes", &[-1]), integer("keepdims", 1)]);
            let least = graph.number(1e-12);
            let length = graph.plain("Max", &[&length, &least]);
            graph.plain("Div", &[&x, &length])
        }
        HeadInput::ZeroMean => {
            let ones = head.weight.select(0, 0).ones_like();
            graph.norm(&x, (&ones, &ones.zeros_like()), 1e-12)
        }
    };
    graph.linear(&x, &head.weight, head.bias.as_ref())
}

/// An attribute of softmax over the last dimension.
fn last_axis() -> Vec<proto::AttributeProto> {
    vec![integer("axis", -1)]
}

/// Attributes of the convolution that reads patches.
fn patches(side: i64) -> Vec<proto::AttributeProto> {
    vec![integers("kernel_shape", &[side, side]), integers("strides", &[side, side])]
}

/// Conversion to fp32.
fn to_float() -> Vec<proto::AttributeProto> {
    vec![integer("to", i64::from(proto::FLOAT))]
}

/// The mean over tokens.
fn over_tokens() -> Vec<proto::AttributeProto> {
    vec![integers("axes", &[1]), integer("keepdims", 0)]
}

#[cfg(test)]
mod tests {
    use super::graph::float;
    use super::*;

    /// The bytes of a message are those of the published format, whatever the macros of the library do.
    #[test]
    fn messages_have_the_field_numbers_of_onnx() {
        let node = proto::NodeProto {
            input: vec!["x".to_owned()],
            output: vec!["y".to_owned()],
            name: String::new(),
            op_type: "Relu".to_owned(),
            attribute: vec![integer("axis", -1), float("epsilon", 0.5)],
        };
        let axis = [&[10, 4][..], b"axis", &[24], &[0xff; 9], &[1, 160, 1, 2]].concat();
        let epsilon = [&[10, 7][..], b"epsilon", &[21, 0, 0, 0, 63, 160, 1, 1]].concat();
        let expected = [
            &[10, 1, b'x', 18, 1, b'y', 34, 4][..],
            b"Relu",
            &[42, axis.len() as u8],
            &axis,
            &[42, epsilon.len() as u8],
            &epsilon,
        ]
        .concat();
        assert_eq!(node.encode_to_vec(), expected);
    }
}
