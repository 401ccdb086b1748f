// Element types, and rows of a matrix in the registers of a warp.
//
// The compiler gets three definitions: STREAM, the type of the residual stream; COMPUTE, the type of matrix products; and
// WIDTH, the numbers in a row. Each warp has one row, so sums over a row need neither shared memory nor atomics, and their
// order is always the same. All arithmetic is fp32.

// 16-bit types by their bits: the headers of CUDA that have them are not part of NVRTC.
struct Bf16 {
    unsigned short bits;
};
struct Fp16 {
    unsigned short bits;
};

__device__ inline float widened(float value) { return value; }

__device__ inline float widened(Bf16 value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }

__device__ inline void narrow(float value, float &to) { to = value; }

// To the nearest, ties to even, as libtorch rounds.
__device__ inline void narrow(float value, Bf16 &to) {
    const unsigned bits = __float_as_uint(value);
    const bool is_nan = value != value;
    to.bits = static_cast<unsigned short>(is_nan ? 0x7fc0u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#ifdef __CUDACC__
__device__ inline float widened(Fp16 value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
}

__device__ inline void narrow(float value, Fp16 &to) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(value)); }
#else
// Another compiler brings these two of its own.
__device__ inline float widened(Fp16 value) { return half_to_float(value.bits); }

__device__ inline void narrow(float value, Fp16 &to) { to.bits = float_to_half(value); }
#endif

using Stream = STREAM;
using Compute = COMPUTE;

constexpr int LANES = 32;
// Numbers that a lane reads at once.
constexpr int VECTOR = WIDTH % 4 == 0 ? 4 : 1;
// Vectors in a row, and of each lane at most.
constexpr int VECTORS = WIDTH / VECTOR;
constexpr int OF_LANE = (VECTORS + LANES - 1) / LANES;

template <typename T>
struct alignas(sizeof(T) * VECTOR) Vector {
    T values[VECTOR];
};

// What one lane has of a row.
struct Row {
    float values[OF_LANE][VECTOR];
};

// The row of this warp.
__device__ inline long long own_row() {
    return static_cast<long long>(blockIdx.x) * blockDim.y + threadIdx.y;
}

// Calls `work(i, j, column)` for the numbers of this lane: `values[i][j]` of a `Row` is that column of the row.
template <typename Work>
__device__ inline void for_each(Work work) {
#pragma unroll
    for (int i = 0; i < OF_LANE; ++i) {
        const int vector = i * LANES + static_cast<int>(threadIdx.x);
        if (vector < VECTORS) {
#pragma unroll
            for (int j = 0; j < VECTOR; ++j) work(i, j, vector * VECTOR + j);
        }
    }
}

template <typename T>
__device__ inline Row load(const T *row) {
    Row loaded;
#pragma unroll
    for (int i = 0; i < OF_LANE; ++i) {
        const int vector = i * LANES + static_cast<int>(threadIdx.x);
        if (vector < VECTORS) {
            const Vector<T> read = reinterpret_cast<const Vector<T> *>(row)[vector];
#pragma unroll
            for (int j = 0; j < VECTOR; ++j) loaded.values[i][j] = widened(read.values[j]);
        }
    }
    return loaded;
}

template <typename T>
__device__ inline void store(const Row &numbers, T *row) {
#pragma unroll
    for (int i = 0; i < OF_LANE; ++i) {
        const int vector = i * LANES + static_cast<int>(threadIdx.x);
        if (vector < VECTORS) {
            Vector<T> written;
#pragma unroll
            for (int j = 0; j < VECTOR; ++j) narrow(numbers.values[i][j], written.values[j]);
            reinterpret_cast<Vector<T> *>(row)[vector] = written;
        }
    }
}

// The numbers as they are after they were stored as `T`, so that what is computed from them is what a reader computes.
template <typename T>
__device__ inline void round_to(Row &numbers) {
    for_each([&](int i, int j, int) {
        T rounded;
        narrow(numbers.values[i][j], rounded);
        numbers.values[i][j] = widened(rounded);
    });
}

// The sum over the lanes of the warp, the same in each.
__device__ inline float sum_of_warp(float value) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    }
    return value;
}
