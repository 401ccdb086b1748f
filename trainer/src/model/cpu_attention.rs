//! Attention of fp32 on the CPU: softmax(Q K^T / sqrt(d)) V for each head, forward and backward.
//!
//! libtorch's kernel multiplies its blocks with MKL, which leaves AVX-512 unused on processors of other makers. Here each head of
//! an image is one task, whose scores fit into the cache of a core. Queries, keys and values are read where they lie in the
//! product `[images, tokens, 3 width]`, and their gradients are written there. Of the scores only the logarithm of their sum is
//! kept for the backward pass.

mod head;
mod softmax;

use crate::aten::parallel_for;
use head::{Head, Matrix, MatrixMut};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Sizes of one product of queries, keys and values.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    images: usize,
    tokens: usize,
    heads: usize,
    head_width: usize,
}

/// A result, and what its backward pass needs besides.
pub struct Attended {
    /// `[images, tokens, width]`.
    pub output: Tensor,
    /// Logarithms of the sums of exponentials, `[images, heads, tokens]`.
    log_sums: Tensor,
}

/// Whether it serves this tensor; the processor must be one of [`aten::products_are_fast`](crate::aten::products_are_fast).
pub fn serves(qkv: &Tensor) -> bool {
    qkv.kind() == Kind::Float && qkv.device() == tch::Device::Cpu
}

/// Attention over `qkv`, `[images, tokens, 3 width]`, without a graph.
pub fn forward(qkv: &Tensor, heads: i64) -> Attended {
    let qkv = qkv.detach().contiguous();
    let sizes = Sizes::of(&qkv, heads);
    let Sizes { images, tokens, heads, head_width } = sizes;
    let shape = |sizes: &[usize]| sizes.iter().map(|&size| size as i64).collect::<Vec<_>>();
    let output = Tensor::empty(shape(&[images, tokens, heads * head_width]), (Kind::Float, qkv.device()));
    let log_sums = Tensor::empty(shape(&[images, heads, tokens]), (Kind::Float, qkv.device()));
    let (read, out, sums) = (Numbers::of(&qkv), Numbers::of(&output), Numbers::of(&log_sums));
    sizes.for_each_head(|task, head| {
        let [q, k, v] = sizes.qkv(read, task);
        // SAFETY: `sizes` are those of the tensors, which outlive the call; each task writes its own head.
        unsafe { head.forward([q, k, v], sizes.merged(out, task), sums.at(task * tokens)) };
    });
    Attended { output, log_sums }
}

/// The gradient of `qkv` from that of the output.
pub fn backward(qkv: &Tensor, attended: &Attended, gradient: &Tensor, heads: i64) -> Tensor {
    let (qkv, gradient) = (qkv.detach().contiguous(), gradient.contiguous());
    let sizes = Sizes::of(&qkv, heads);
    let of_qkv = qkv.empty_like();
    let [read, written, out, of_out, sums] =
        [&qkv, &of_qkv, &attended.output, &gradient, &attended.log_sums].map(Numbers::of);
    sizes.for_each_head(|task, head| {
        let inputs = sizes.qkv(read, task);
        let gradients = sizes.qkv(written, task);
        let outputs = [sizes.merged(out, task), sizes.merged(of_out, task)];
        // SAFETY: as above.
        unsafe { head.backward(inputs, outputs, sums.at(task * sizes.tokens), gradients) };
    });
    of_qkv
}

/// The numbers of a contiguous tensor of fp32, shared between threads.
#[derive(Clone, Copy)]
struct Numbers(*mut f32);

// SAFETY: tasks of a loop read what no task writes, and write separate parts.
unsafe impl Send for Numbers {}
// SAFETY: as above.
unsafe impl Sync for Numbers {}

impl Numbers {
    fn of(tensor: &Tensor) -> Self {
        Self(tensor.data_ptr().cast())
    }

    fn at(self, place: usize) -> *mut f32 {
        self.0.wrapping_add(place)
    }
}

impl Sizes {
    fn of(qkv: &Tensor, heads: i64) -> Self {
        let size = qkv.size();
        let head_width = (size[2] / 3 / heads) as usize;
        Self { images: size[0] as usize, tokens: size[1] as usize, heads: heads as usize, head_width }
    }

    /// Runs a task for each head of each image, each thread with its own scratch memory.
    fn for_each_head(self, task: impl Fn(usize, &mut Head) + Sync) {
        parallel_for((self.images * self.heads) as i64, &|range: Range<i64>| {
            let mut head = Head::new(self.tokens, self.head_width);
            range.for_each(|number| task(number as usize, &mut head));
        });
    }

    fn width(self) -> usize {
        self.heads * self.head_width
    }

    /// Queries, keys and values of a task.
    fn qkv(self, numbers: Numbers, task: usize) -> [MatrixMut; 3] {
        let (image, head) = (task / self.heads, task % self.heads);
        let stride = 3 * self.width();
        let first = image * self.tokens * stride + head * self.head_width;
        [0, 1, 2].map(|part| Matrix { first: numbers.at(first + part * self.width()), stride })
    }

    /// The columns of a task's head in `[images, tokens, width]`.
    fn merged(self, numbers: Numbers, task: usize) -> MatrixMut {
        let (image, head) = (task / self.heads, task % self.heads);
        let stride = self.width();
        Matrix { first: numbers.at(image * self.tokens * stride + head * self.head_width), stride }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aten::backward_from;
    use tch::Device;

    fn numbers(shape: &[i64], factor: f64) -> Tensor {
        let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        ((places * factor).sin() * 0.7).view(shape)
    }

    /// By its equation, in double precision.
    fn plain(qkv: &Tensor, heads: i64) -> Tensor {
        let (n, t, w) = (qkv.size()[0], qkv.size()[1], qkv.size()[2] / 3);
        let split = |part: &Tensor| part.view([n, t, heads, w / heads]).transpose(1, 2);
        let parts: Vec<Tensor> = qkv.chunk(3, -1).iter().map(split).collect();
        let scores = parts[0].matmul(&parts[1].transpose(2, 3)) / ((w / heads) as f64).sqrt();
        scores.softmax(-1, Kind::Double).matmul(&parts[2]).transpose(1, 2).reshape([n, t, w])
    }

    fn away(found: &Tensor, expected: &Tensor) -> f64 {
        let size = expected.abs().max().double_value(&[]);
        (found.to_kind(Kind::Double) - expected).abs().max().double_value(&[]) / size
    }

    #[test]
    fn values_and_gradients_are_those_of_the_equation() {
        for (images, tokens, heads, head_width) in
            [(3, 37, 2, 64), (1, 1, 3, 8), (2, 197, 1, 64), (2, 50, 4, 20)]
        {
            let width = heads * head_width;
            let qkv = numbers(&[images, tokens, 3 * width], 0.71).set_requires_grad(true);
            let gradient = numbers(&[images, tokens, width], 1.3);
            let expected = plain(&qkv, heads);
            backward_from(&expected, &gradient, false);
            let own = qkv.detach().to_kind(Kind::Float);
            let attended = forward(&own, heads);
            let of_qkv = backward(&own, &attended, &gradient.to_kind(Kind::Float), heads);
            let name = format!("{tokens} tokens, {heads} heads of {head_width}");
            let [values, gradients] =
                [away(&attended.output, &expected.detach()), away(&of_qkv, &qkv.grad())];
            assert!(values < 3e-6 && gradients < 1e-5, "{name}: {values:e}, {gradients:e}");
        }
    }

    #[test]
    fn large_scores_stay_finite() {
        let qkv = numbers(&[1, 20, 3 * 8], 0.3) * 120.0;
        let expected = plain(&qkv, 1);
        let attended = forward(&qkv.to_kind(Kind::Float), 1);
        assert!(away(&attended.output, &expected) < 1e-4);
    }

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let qkv = numbers(&[4, 29, 3 * 32], 0.9).to_kind(Kind::Float);
        let all = forward(&qkv, 2).output;
        for image in 0..4 {
            assert_eq!(forward(&qkv.narrow(0, image, 1), 2).output, all.narrow(0, image, 1));
        }
    }
}
