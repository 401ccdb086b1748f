// CUDA C++ for a CPU: what the kernels of the trainer use of it. The threads of a block are fibers of one thread of the
// system. Each runs until it waits for others, at a shuffle or a barrier, and then the next one goes on.
#pragma once

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
// One block runs at a time.
#define __shared__ static
#define __launch_bounds__(...)

namespace emulator {

struct Dimensions {
    unsigned x, y, z;
    unsigned size() const { return x * y * z; }
};

constexpr unsigned WARP = 32;
constexpr std::size_t STACK = 256 << 10;

// Threads that wait for each other.
struct Barrier {
    unsigned members = 0, arrived = 0;
    std::uint64_t passed = 0;
};

struct Warp {
    Barrier barrier;
    // Of one shuffle and of the next, which a lane may reach before others have read.
    std::uint32_t exchanged[2][WARP];
};

struct Fiber {
    Dimensions index;
    unsigned lane;
    Warp *warp;
    std::uint64_t shuffles;
    std::unique_ptr<char[]> stack;
    ucontext_t start;
    jmp_buf point;
    bool has_begun, is_done;
};

struct Block {
    Dimensions index, size, grid;
    Barrier barrier;
    std::vector<Warp> warps;
    std::vector<Fiber> fibers;
    // Counts what brings a block on: a passed barrier, a thread that ends.
    std::uint64_t progress = 0;
    jmp_buf scheduler;
};

inline Block block;
inline Fiber *self = nullptr;
inline std::mutex one_launch;
inline void (*body)(void *) = nullptr;
inline void *context = nullptr;

inline void yield() {
    if (_setjmp(self->point) == 0) _longjmp(block.scheduler, 1);
}

inline void wait(Barrier &barrier) {
    const std::uint64_t before = barrier.passed;
    barrier.arrived += 1;
    while (barrier.passed == before) {
        if (barrier.arrived == barrier.members) {
            barrier.arrived = 0;
            barrier.passed += 1;
            block.progress += 1;
            return;
        }
        yield();
    }
}

inline void run_fiber() {
    body(context);
    self->is_done = true;
    self->warp->barrier.members -= 1;
    block.barrier.members -= 1;
    block.progress += 1;
    _longjmp(block.scheduler, 1);
}

inline void resume(Fiber &fiber) {
    self = &fiber;
    if (_setjmp(block.scheduler) != 0) return;
    if (fiber.has_begun) _longjmp(fiber.point, 1);
    fiber.has_begun = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, &run_fiber, 0);
    setcontext(&fiber.start);
}

inline void prepare() {
    const unsigned threads = block.size.size();
    block.barrier = {threads, 0, 0};
    block.warps.assign((threads + WARP - 1) / WARP, Warp{});
    if (block.fibers.size() != threads) block.fibers = std::vector<Fiber>(threads);
    for (unsigned number = 0; number < threads; ++number) {
        Fiber &fiber = block.fibers[number];
        fiber.index = {number % block.size.x, number / block.size.x % block.size.y, number / block.size.x / block.size.y};
        fiber.lane = number % WARP;
        fiber.warp = &block.warps[number / WARP];
        fiber.warp->barrier.members += 1;
        fiber.shuffles = 0;
        fiber.has_begun = fiber.is_done = false;
        if (!fiber.stack) fiber.stack.reset(new char[STACK]);
    }
}

inline void run_block() {
    prepare();
    unsigned left = block.size.size();
    while (left > 0) {
        const std::uint64_t before = block.progress;
        left = 0;
        for (Fiber &fiber : block.fibers) {
            if (!fiber.is_done) resume(fiber);
            left += fiber.is_done ? 0 : 1;
        }
        if (left > 0 && block.progress == before) {
            std::fprintf(stderr, "the emulator of CUDA: %u threads wait for others that have ended\n", left);
            std::abort();
        }
    }
}

template <typename... Arguments>
constexpr unsigned parameters(void (*)(Arguments...)) {
    return sizeof...(Arguments);
}

// Calls a kernel with the values behind pointers, as the driver gets them.
template <typename... Arguments>
struct Call {
    void (*kernel)(Arguments...);
    void **values;

    template <std::size_t... Index>
    void run(std::index_sequence<Index...>) const {
        kernel(*static_cast<std::remove_reference_t<Arguments> *>(values[Index])...);
    }
    static void body(void *call) {
        static_cast<const Call *>(call)->run(std::index_sequence_for<Arguments...>{});
    }
};

template <typename... Arguments>
void launch(void (*kernel)(Arguments...), const unsigned grid[3], const unsigned threads[3], void **values) {
    std::lock_guard<std::mutex> guard(one_launch);
    Call<Arguments...> call{kernel, values};
    body = &Call<Arguments...>::body;
    context = &call;
    block.grid = {grid[0], grid[1], grid[2]};
    block.size = {threads[0], threads[1], threads[2]};
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                block.index = {x, y, z};
                run_block();
            }
}

// The bits of a value of 32 bits as another type.
template <typename To, typename From>
To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From), "both have 32 bits");
    To result;
    std::memcpy(&result, &value, sizeof result);
    return result;
}

// What the lane at `from` has at this shuffle.
template <typename T>
T shuffled(unsigned mask, T value, unsigned from) {
    if (mask != 0xffffffffu) {
        std::fprintf(stderr, "the emulator of CUDA: shuffles are of whole warps\n");
        std::abort();
    }
    auto &exchanged = self->warp->exchanged[self->shuffles++ % 2];
    exchanged[self->lane] = bits_as<std::uint32_t>(value);
    wait(self->warp->barrier);
    return bits_as<T>(exchanged[from % WARP]);
}

}  // namespace emulator

#define threadIdx (emulator::self->index)
#define blockIdx (emulator::block.index)
#define blockDim (emulator::block.size)
#define gridDim (emulator::block.grid)

inline void __syncthreads() { emulator::wait(emulator::block.barrier); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
    return emulator::shuffled(mask, value, emulator::self->lane ^ static_cast<unsigned>(lane_mask));
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance) {
    const unsigned from = emulator::self->lane + distance;
    return emulator::shuffled(mask, value, from < emulator::WARP ? from : emulator::self->lane);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
    return emulator::shuffled(mask, value, static_cast<unsigned>(lane));
}

inline float __uint_as_float(unsigned bits) { return emulator::bits_as<float>(bits); }
inline unsigned __float_as_uint(float value) { return emulator::bits_as<unsigned>(value); }

inline float rsqrtf(float value) {
#ifdef EMULATOR_WRONG
    return 1.01f / std::sqrt(value);
#else
    return 1.0f / std::sqrt(value);
#endif
}

inline float half_to_float(unsigned short half) {
    const unsigned sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31u, mantissa = half & 0x3ffu;
    if (exponent == 0) {
        const float small = std::ldexp(static_cast<float>(mantissa), -24);
        return sign ? -small : small;
    }
    const unsigned wide = exponent == 31 ? 255u : exponent + 112u;
    return __uint_as_float(sign | wide << 23 | mantissa << 13);
}

// To the nearest, ties to even.
inline unsigned short float_to_half(float value) {
    const unsigned sign = (__float_as_uint(value) >> 16) & 0x8000u;
    const float size = std::fabs(value);
    if (size != size) return static_cast<unsigned short>(sign | 0x7fffu);
    if (size >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00u);
    // The distance of neighbours: 2^-24 below the normal numbers, else 2^-10 of the power of two.
    int exponent = -14;
    if (size >= 0x1p-14f) exponent = std::ilogb(size);
    const float steps = std::nearbyint(std::ldexp(size, 10 - exponent));
    // A normal number has 1024 to 2048 steps; 2048 carry into the exponent by themselves.
    const unsigned base = size >= 0x1p-14f ? static_cast<unsigned>(exponent + 14) << 10 : 0u;
    return static_cast<unsigned short>(sign | (base + static_cast<unsigned>(steps)));
}
