//! Builds a graph of ONNX operations, one after the other.

use super::proto::{
    AttributeProto, DimensionProto, FLOAT, GraphProto, INT64, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::model::export::single;
use crate::weights::copy_bytes;
use tch::Tensor;

/// The name of a value in the graph.
pub(super) type Value = String;

/// A graph in construction.
#[derive(Default)]
pub(super) struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// A constant in fp32.
    pub(super) fn constant(&mut self, tensor: &Tensor) -> Value {
        let tensor = single(tensor);
        let mut raw_data = Vec::new();
        copy_bytes(&tensor, &mut raw_data);
        self.initializer(tensor.size(), FLOAT, raw_data)
    }

    /// A constant number.
    pub(super) fn number(&mut self, value: f64) -> Value {
        self.initializer(Vec::new(), FLOAT, (value as f32).to_le_bytes().to_vec())
    }

    /// A constant list of integers.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(vec![values.len() as i64], INT64, raw_data)
    }

    fn initializer(&mut self, dims: Vec<i64>, data_type: i32, raw_data: Vec<u8>) -> Value {
        let name = format!("c{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto { dims, data_type, name: name.clone(), raw_data });
        name
    }

    /// An operation with one output.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attribute: Vec<AttributeProto>,
    ) -> Value {
        let output = format!("v{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.clone()).collect(),
            output: vec![output.clone()],
            name: format!("{operator}_{}", self.graph.node.len()),
            op_type: operator.to_owned(),
            attribute,
        });
        output
    }

    /// An operation without attributes.
    pub(super) fn plain(&mut self, operator: &str, inputs: &[&Value]) -> Value {
        self.node(operator, inputs, Vec::new())
    }

    /// `x W^T + b`, of a layer `[out, in]`.
    pub(super) fn linear(&mut self, x: &Value, weight: &Tensor, bias: Option<&Tensor>) -> Value {
        let weight = self.constant(&weight.tr());
        let y = self.plain("MatMul", &[x, &weight]);
        let Some(bias) = bias else { return y };
        let bias = self.constant(bias);
        self.plain("Add", &[&y, &bias])
    }

    /// Layer normalisation over the last dimension.
    pub(super) fn norm(&mut self, x: &Value, (weight, bias): (&Tensor, &Tensor), epsilon: f64) -> Value {
        let (weight, bias) = (self.constant(weight), self.constant(bias));
        let attributes = vec![integer("axis", -1), float("epsilon", epsilon)];
        self.node("LayerNormalization", &[x, &weight, &bias], attributes)
    }

    /// Another shape; 0 keeps a dimension and -1 is what remains.
    pub(super) fn reshape(&mut self, x: &Value, shape: &[i64]) -> Value {
        let shape = self.integers(shape);
        self.plain("Reshape", &[x, &shape])
    }

    /// Dimensions in another order.
    pub(super) fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        self.node("Transpose", &[x], vec![integers("perm", order)])
    }

    /// A range of a dimension.
    pub(super) fn slice(&mut self, x: &Value, axis: i64, range: std::ops::Range<i64>) -> Value {
        let (start, end) = (self.integers(&[range.start]), self.integers(&[range.end]));
        let axis = self.integers(&[axis]);
        self.plain("Slice", &[x, &start, &end, &axis])
    }

    /// Values one after the other.
    pub(super) fn concat(&mut self, parts: &[&Value], axis: i64) -> Value {
        self.node("Concat", parts, vec![integer("axis", axis)])
    }

    /// Rows `[rows, width]` once for each image of `x`, whose first dimension they are: `[images, rows, width]`.
    pub(super) fn for_each_image(&mut self, rows: &Tensor, x: &Value) -> Value {
        let size = rows.size();
        let rows = self.constant(&rows.unsqueeze(0));
        let shape = self.plain("Shape", &[x]);
        let images = self.slice(&shape, 0, 0..1);
        let each = self.integers(&size);
        let shape = self.concat(&[&images, &each], 0);
        self.plain("Expand", &[&rows, &shape])
    }

    /// The finished graph.
    pub(super) fn finish(mut self, input: ValueInfoProto, output: (&Value, i64)) -> GraphProto {
        let (value, classes) = output;
        let logits = "logits".to_owned();
        self.graph.node.push(NodeProto {
            input: vec![value.clone()],
            output: vec![logits.clone()],
            name: "logits".to_owned(),
            op_type: "Identity".to_owned(),
            attribute: Vec::new(),
        });
        let output = vec![described(&logits, FLOAT, &[classes])];
        GraphProto { name: "lift".to_owned(), input: vec![input], output, ..self.graph }
    }
}

/// A value of any number of images, each of this shape.
pub(super) fn described(name: &str, elem_type: i32, shape: &[i64]) -> ValueInfoProto {
    let any = DimensionProto { dim_value: None, dim_param: Some("images".to_owned()) };
    let fixed = shape.iter().map(|&size| DimensionProto { dim_value: Some(size), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(any).chain(fixed).collect() };
    let tensor_type = TensorTypeProto { elem_type, shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// An attribute with a number.
pub(super) fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f: value as f32, r#type: 1, ..AttributeProto::default() }
}

/// An attribute with an integer.
pub(super) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: value, r#type: 2, ..AttributeProto::default() }
}

/// An attribute with several integers.
pub(super) fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints: values.to_vec(), r#type: 7, ..AttributeProto::default() }
}
