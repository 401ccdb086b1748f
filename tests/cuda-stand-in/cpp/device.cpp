// The device itself: one GPU, whose default stream has done its work when a call returns.
#include "capture.h"
#include "counters.h"
#include "memory.h"
#include "pinned.h"
#include "streams.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace stand_in {

using c10::Device;
using c10::DeviceIndex;
using c10::Stream;

void synchronize_device() {
    refuse_wait_while_capturing("synchronize_device");
    count_wait("synchronize_device");
}

struct DeviceGuard final : c10::impl::DeviceGuardImplInterface {
    c10::DeviceType type() const override { return c10::kCUDA; }
    Device exchangeDevice(Device) const override { return gpu(); }
    Device getDevice() const override { return gpu(); }
    void setDevice(Device) const override {}
    void uncheckedSetDevice(Device) const noexcept override {}
    DeviceIndex deviceCount() const noexcept override { return 1; }

    Stream getStream(Device) const override { return current_stream(); }
    Stream getDefaultStream(Device) const override { return Stream(Stream::DEFAULT, gpu()); }
    Stream getStreamFromGlobalPool(Device, bool) const override { return stream_of_pool(); }
    Stream getNewStream(Device, int) const override { return stream_of_pool(); }
    Stream exchangeStream(Stream stream) const override { return exchange_stream(stream); }
    // Null is the default stream of the CUDA runtime, and of its stand-in.
    void *getStreamNativeHandle(const Stream) const override { return nullptr; }
    bool queryStream(const Stream &) const override { return true; }
    void synchronizeStream(const Stream &stream) const override {
        refuse_wait_while_capturing("synchronize_stream");
        count_wait("synchronize_stream");
        drain(stream);
    }

    void record(void **event, const Stream &stream, const DeviceIndex, const c10::EventFlag) const override {
        record_event(event, stream);
    }
    void block(void *event, const Stream &stream) const override { block_on_event(event, stream); }
    void destroyEvent(void *event, const DeviceIndex) const noexcept override { destroy_event(event); }
    bool queryEvent(void *event) const override { return is_past(event); }
    void synchronizeEvent(void *event) const override {
        refuse_wait_while_capturing("synchronize_event");
        count_wait("synchronize_event");
        wait_for_event(event);
    }
    void synchronizeDevice(const DeviceIndex) const override { synchronize_device(); }
};

struct Hooks final : at::CUDAHooksInterface {
    explicit Hooks(at::CUDAHooksArgs) {}
    void init() const override {}
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return true; }
    bool hasPrimaryContext(DeviceIndex) const override { return true; }
    DeviceIndex deviceCount() const override { return 1; }
    int getNumGPUs() const override { return 1; }
    DeviceIndex current_device() const override { return 0; }
    DeviceIndex getCurrentDevice() const override { return 0; }
    void setCurrentDevice(DeviceIndex) const override {}
    DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
    DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
    void deviceSynchronize(DeviceIndex) const override { synchronize_device(); }

    bool hasCUDA() const override { return true; }
    bool hasCUDART() const override { return true; }
    long versionCUDART() const override { return 13000; }
    bool hasCuDNN() const override { return true; }
    bool compiledWithCuDNN() const override { return true; }
    long versionCuDNN() const override { return 91500; }
    long versionRuntimeCuDNN() const override { return 91500; }
    bool supportsBFloat16ConvolutionWithCuDNNv8() const override { return true; }

    bool isPinnedPtr(const void *address) const override { return is_pinned(address); }
    at::Allocator *getPinnedMemoryAllocator() const override { return &pinned_memory(); }
    at::Allocator *getCUDADeviceAllocator() const override { return &memory(); }
    const at::Generator &getDefaultGenerator(DeviceIndex) const override {
        static const at::Generator generator = at::detail::createCPUGenerator();
        return generator;
    }
    at::Generator getNewGenerator(DeviceIndex) const override { return at::detail::createCPUGenerator(); }
};

}  // namespace stand_in

namespace c10::impl {
using StandInGuard = stand_in::DeviceGuard;
C10_REGISTER_GUARD_IMPL(CUDA, StandInGuard)
}  // namespace c10::impl

namespace at {
// libtorch looks for this name.
using CUDAHooks = stand_in::Hooks;
REGISTER_CUDA_HOOKS(CUDAHooks)
}  // namespace at
