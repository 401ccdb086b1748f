// LayerNorm of rows of the residual stream, with a frozen affine part and an output in the type of matrix products.

// Mean and 1 / standard deviation of a row; the squares are summed after the mean is known, which loses no digits.
struct Statistics {
    float mean, rstd;
};

__device__ inline Statistics statistics(const Row &x, float epsilon) {
    float sum = 0.0f;
    for_each([&](int i, int j, int) { sum += x.values[i][j]; });
    const float mean = sum_of_warp(sum) / WIDTH;
    float squares = 0.0f;
    for_each([&](int i, int j, int) {
        const float away = x.values[i][j] - mean;
        squares += away * away;
    });
    return {mean, rsqrtf(sum_of_warp(squares) / WIDTH + epsilon)};
}

// factor ((x - mean) rstd weight + bias), in place.
__device__ inline void normalise(Row &x, Statistics of, const float *weight, const float *bias, float factor) {
    for_each([&](int i, int j, int column) {
        const float normal = (x.values[i][j] - of.mean) * of.rstd;
        x.values[i][j] = factor * (normal * weight[column] + bias[column]);
    });
}

// From the gradient of the output to that of `x`, in place. With n = (x - mean) rstd and g = factor gradient weight:
// rstd (g - mean(g) - n mean(g n)).
__device__ inline void through_norm(Row &gradient, const Row &x, Statistics of, const float *weight, float factor) {
    float sum = 0.0f, projected = 0.0f;
    for_each([&](int i, int j, int column) {
        gradient.values[i][j] *= factor * weight[column];
        sum += gradient.values[i][j];
        projected += gradient.values[i][j] * ((x.values[i][j] - of.mean) * of.rstd);
    });
    const float mean = sum_of_warp(sum) / WIDTH;
    const float along = sum_of_warp(projected) / WIDTH;
    for_each([&](int i, int j, int) {
        const float normal = (x.values[i][j] - of.mean) * of.rstd;
        gradient.values[i][j] = of.rstd * (gradient.values[i][j] - mean - normal * along);
    });
}

// `kept` has the means of all rows, then 1 / standard deviation of all rows.
__device__ inline void keep(Statistics found, float *kept, long long row, long long rows) {
    if (threadIdx.x == 0) {
        kept[row] = found.mean;
        kept[rows + row] = found.rstd;
    }
}

__device__ inline Statistics kept_of(const float *kept, long long row, long long rows) {
    return {kept[row], kept[rows + row]};
}

extern "C" __global__ void layer_norm_cast(const Stream *x, const float *weight, const float *bias, Compute *output,
                                           float *kept, long long rows, float epsilon, float factor) {
    const long long row = own_row();
    if (row >= rows) return;
    Row own = load(x + row * WIDTH);
    const Statistics found = statistics(own, epsilon);
    keep(found, kept, row, rows);
    normalise(own, found, weight, bias, factor);
    store(own, output + row * WIDTH);
}

extern "C" __global__ void layer_norm_cast_backward(const Compute *gradient, const Stream *x, const float *kept,
                                                    const float *weight, Stream *of_x, long long rows, float factor) {
    const long long row = own_row();
    if (row >= rows) return;
    Row own = load(gradient + row * WIDTH);
    through_norm(own, load(x + row * WIDTH), kept_of(kept, row, rows), weight, factor);
    store(own, of_x + row * WIDTH);
}
