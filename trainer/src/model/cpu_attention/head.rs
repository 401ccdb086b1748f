//! One head of one image.

use super::softmax::{exponentials, inner_product, of_scores};
use gemm::{Parallelism, gemm};

/// Rows of a matrix in memory: the first number, and how far the next row is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix {
    pub first: *mut f32,
    pub stride: usize,
}

/// A matrix that is written.
pub(super) type MatrixMut = Matrix;

/// Scratch memory of one thread.
pub(super) struct Head {
    tokens: usize,
    width: usize,
    scores: Vec<f32>,
    gradients: Vec<f32>,
}

impl Matrix {
    /// Some numbers of a row.
    ///
    /// # Safety
    /// The matrix has this row and width, and nothing else uses the row while the slice lives.
    unsafe fn row<'a>(self, row: usize, width: usize) -> &'a mut [f32] {
        // SAFETY: as the caller guarantees.
        unsafe { std::slice::from_raw_parts_mut(self.first.wrapping_add(row * self.stride), width) }
    }

    fn transposed(self) -> Strided {
        Strided { first: self.first, row: 1, column: self.stride as isize }
    }

    fn plain(self) -> Strided {
        Strided { first: self.first, row: self.stride as isize, column: 1 }
    }
}

/// A matrix with any strides.
#[derive(Clone, Copy)]
struct Strided {
    first: *mut f32,
    row: isize,
    column: isize,
}

/// `out = factor a b`, of sizes `m x k` and `k x n`.
///
/// # Safety
/// All matrices are valid for these sizes, and `out` overlaps no other.
unsafe fn multiply(out: Matrix, a: Strided, b: Strided, [m, n, k]: [usize; 3], factor: f32) {
    let out = out.plain();
    // SAFETY: as the caller guarantees.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.first,
            out.column,
            out.row,
            false,
            a.first,
            a.column,
            a.row,
            b.first,
            b.column,
            b.row,
            0.0,
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

impl Head {
    pub fn new(tokens: usize, width: usize) -> Self {
        Self { tokens, width, scores: vec![0.0; tokens * tokens], gradients: Vec::new() }
    }

    /// `softmax(q k^T / sqrt(d)) v`, and the logarithms of the sums.
    ///
    /// # Safety
    /// All matrices have `tokens` rows of `width` numbers, and `log_sums` has `tokens` numbers; nothing else uses `out` and
    /// `log_sums`.
    pub unsafe fn forward(&mut self, [q, k, v]: [Matrix; 3], out: MatrixMut, log_sums: *mut f32) {
        let (tokens, width) = (self.tokens, self.width);
        let scores = Matrix { first: self.scores.as_mut_ptr(), stride: tokens };
        // SAFETY: as the caller guarantees; the scores have `tokens` rows.
        unsafe { multiply(scores, q.plain(), k.transposed(), [tokens, tokens, width], self.scale()) };
        // SAFETY: as the caller guarantees.
        let log_sums = unsafe { std::slice::from_raw_parts_mut(log_sums, tokens) };
        for (row, log_sum) in self.scores.chunks_exact_mut(tokens).zip(&mut *log_sums) {
            *log_sum = exponentials(row);
        }
        // SAFETY: as above.
        unsafe { multiply(out, scores.plain(), v.plain(), [tokens, width, tokens], 1.0) };
    }

    /// The gradients of queries, keys and values, from the output and its gradient.
    ///
    /// # Safety
    /// As for [`forward`](Self::forward), for the gradients.
    pub unsafe fn backward(
        &mut self,
        [q, k, v]: [Matrix; 3],
        [out, of_out]: [Matrix; 2],
        log_sums: *const f32,
        [of_q, of_k, of_v]: [MatrixMut; 3],
    ) {
        let (tokens, width, scale) = (self.tokens, self.width, self.scale());
        self.gradients.resize(tokens * tokens, 0.0);
        let scores = Matrix { first: self.scores.as_mut_ptr(), stride: tokens };
        let gradients = Matrix { first: self.gradients.as_mut_ptr(), stride: tokens };
        let (square, tall) = ([tokens, tokens, width], [tokens, width, tokens]);
        // SAFETY: as the caller guarantees.
        let log_sums = unsafe { std::slice::from_raw_parts(log_sums, tokens) };
        // SAFETY: as the caller guarantees; scores and their gradients have `tokens` rows.
        unsafe {
            multiply(scores, q.plain(), k.transposed(), square, scale);
            multiply(gradients, of_out.plain(), v.transposed(), square, 1.0);
        }
        for (token, log_sum) in log_sums.iter().enumerate() {
            // SAFETY: every matrix has a row for each token; those of the output are only read.
            let [out, of_out] = [out, of_out].map(|matrix| unsafe { &*matrix.row(token, width) });
            // SAFETY: as above; both are scratch memory of this thread.
            let [weights, gradient] = [scores, gradients].map(|matrix| unsafe { matrix.row(token, tokens) });
            of_scores(weights, gradient, *log_sum, inner_product(out, of_out), scale);
        }
        // SAFETY: as above.
        unsafe {
            multiply(of_v, scores.transposed(), of_out.plain(), tall, 1.0);
            multiply(of_q, gradients.plain(), k.plain(), tall, 1.0);
            multiply(of_k, gradients.transposed(), q.plain(), tall, 1.0);
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}
