// Additions to the residual stream, each in one pass over memory.

// sum = x + factor y, and the LayerNorm of the sum.
extern "C" __global__ void residual_layer_norm(const Stream *x, const Compute *y, const float *weight, const float *bias,
                                               Stream *sum, Compute *output, float *kept, long long rows, float factor,
                                               float epsilon, float norm_factor) {
    const long long row = own_row();
    if (row >= rows) return;
    Row own = load(x + row * WIDTH);
    const Row added = load(y + row * WIDTH);
    for_each([&](int i, int j, int) { own.values[i][j] += factor * added.values[i][j]; });
    round_to<Stream>(own);
    store(own, sum + row * WIDTH);
    const Statistics found = statistics(own, epsilon);
    keep(found, kept, row, rows);
    normalise(own, found, weight, bias, norm_factor);
    store(own, output + row * WIDTH);
}

// From the gradients of the sum and of the norm's output to those of `x` and of `y`. A null pointer: that one is not needed.
extern "C" __global__ void residual_layer_norm_backward(const Stream *of_sum, const Compute *of_output, const Stream *sum,
                                                        const float *kept, const float *weight, Stream *of_x,
                                                        Compute *of_y, long long rows, float factor,
                                                        float norm_factor) {
    const long long row = own_row();
    if (row >= rows) return;
    Row own = load(of_output + row * WIDTH);
    through_norm(own, load(sum + row * WIDTH), kept_of(kept, row, rows), weight, norm_factor);
    const Row direct = load(of_sum + row * WIDTH);
    for_each([&](int i, int j, int) { own.values[i][j] += direct.values[i][j]; });
    if (of_x) store(own, of_x + row * WIDTH);
    if (!of_y) return;
    for_each([&](int i, int j, int) { own.values[i][j] *= factor; });
    store(own, of_y + row * WIDTH);
}

// sum = x + factor y + beside; `beside` may be null.
extern "C" __global__ void residual_sum(const Stream *x, const Compute *y, const Compute *beside, Stream *sum,
                                        long long rows, float factor) {
    const long long row = own_row();
    if (row >= rows) return;
    Row own = load(x + row * WIDTH);
    const Row added = load(y + row * WIDTH);
    for_each([&](int i, int j, int) { own.values[i][j] += factor * added.values[i][j]; });
    if (beside) {
        const Row more = load(beside + row * WIDTH);
        for_each([&](int i, int j, int) { own.values[i][j] += more.values[i][j]; });
    }
    store(own, sum + row * WIDTH);
}

// The gradients of `y` and of what was added beside it; that of `x` is `gradient`. A null pointer: that one is not needed.
extern "C" __global__ void residual_sum_backward(const Stream *gradient, Compute *of_y, Compute *of_beside,
                                                 long long rows, float factor) {
    const long long row = own_row();
    if (row >= rows) return;
    Row own = load(gradient + row * WIDTH);
    if (of_beside) store(own, of_beside + row * WIDTH);
    if (!of_y) return;
    for_each([&](int i, int j, int) { own.values[i][j] *= factor; });
    store(own, of_y + row * WIDTH);
}
