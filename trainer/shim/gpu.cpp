// Settings, figures, streams and events of libtorch for a GPU that tch does not have. They go through libtorch's device-independent
// interface, so that nothing of CUDA is needed to build or to link.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <memory>

namespace {

// Runs what may throw; 0 if it did not.
template <typename Work>
int guarded(Work work) noexcept {
    try {
        work();
        return 0;
    } catch (...) {
        return 1;
    }
}

c10::Device gpu(int index) { return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)}; }

// The stream of this thread.
c10::Stream current_stream(int index) {
    return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).getStream(gpu(index));
}

}  // namespace

// Whether convolutions and matrix products of fp32 may use TF32.
extern "C" int trainer_allow_tf32(int allowed) noexcept {
    return guarded([&] {
        at::globalContext().setAllowTF32CuDNN(allowed != 0);
        at::globalContext().setFloat32MatmulPrecision(allowed != 0 ? "high" : "highest");
    });
}

// Whether every operation must be bitwise repeatable. The choice of convolutions by measured time is never used: two runs
// may choose differently.
extern "C" int trainer_be_deterministic(int on) noexcept {
    return guarded([&] {
        auto &context = at::globalContext();
        context.setDeterministicAlgorithms(on != 0, /*warn_only=*/false);
        context.setDeterministicCuDNN(on != 0);
        context.setBenchmarkCuDNN(false);
        // No result depends on memory that was not written, so filling it would only cost time.
        context.setDeterministicFillUninitializedMemory(false);
    });
}

// Bytes of a GPU's allocator: of tensors now, at their peak, held now, at their peak.
extern "C" int trainer_gpu_memory(int index, std::int64_t figures[4]) noexcept {
    return guarded([&] {
        const auto device = static_cast<c10::DeviceIndex>(index);
        auto *allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        const auto stats = allocator->getDeviceStats(device);
        const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
        const auto &allocated = stats.allocated_bytes[all], &reserved = stats.reserved_bytes[all];
        const std::int64_t found[4] = {allocated.current, allocated.peak, reserved.current, reserved.peak};
        for (int i = 0; i < 4; ++i) figures[i] = found[i];
    });
}

// Bytes of a GPU that no process uses. This asks the driver, which takes its time.
extern "C" int trainer_free_gpu_memory(int index, std::int64_t *bytes) noexcept {
    return guarded([&] {
        auto *allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        *bytes = static_cast<std::int64_t>(allocator->getMemoryInfo(static_cast<c10::DeviceIndex>(index)).first);
    });
}

// Makes the GPU and a stream of libtorch's pool the current ones of this thread.
extern "C" int trainer_use_pool_stream(int index) noexcept {
    return guarded([&] {
        const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
        // A new thread has GPU 0, and its first call would make a context there.
        guard.setDevice(gpu(index));
        guard.exchangeStream(guard.getStreamFromGlobalPool(gpu(index)));
    });
}

// A new event, recorded in the current stream of this thread.
extern "C" int trainer_record_event(int index, void **event) noexcept {
    return guarded([&] {
        auto recorded = std::make_unique<c10::Event>(c10::DeviceType::CUDA);
        recorded->record(current_stream(index));
        *event = recorded.release();
    });
}

// Later work of this thread's current stream starts after the event.
extern "C" int trainer_block_on_event(int index, void *event) noexcept {
    return guarded([&] { static_cast<c10::Event *>(event)->block(current_stream(index)); });
}

extern "C" void trainer_free_event(void *event) noexcept { delete static_cast<c10::Event *>(event); }

// The memory of a tensor is not given to other streams before the current stream of this thread has done its present work.
extern "C" int trainer_record_stream(int index, void *tensor) noexcept {
    return guarded([&] { static_cast<at::Tensor *>(tensor)->record_stream(current_stream(index)); });
}
