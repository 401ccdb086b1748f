// The allocator of CPU tensors, which libtorch lets only C++ replace.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <cstddef>

namespace {

using Take = void *(*)(std::size_t bytes);
using Give = bool (*)(void *place);

Take take = nullptr;
Give give = nullptr;

// A place that `give` does not know comes from libtorch's own allocator.
void release(void *place) {
    if (place != nullptr && !give(place)) c10::GetDefaultCPUAllocator()->raw_deallocate(place);
}

struct Caching final : c10::Allocator {
    // Where `take` has nothing, libtorch's own allocator serves, or reports the shortage.
    c10::DataPtr allocate(std::size_t bytes) override {
        void *place = take(bytes);
        if (place == nullptr) return c10::GetDefaultCPUAllocator()->allocate(bytes);
        return {place, place, &release, c10::Device(c10::DeviceType::CPU)};
    }

    c10::DeleterFnPtr raw_deleter() const override { return &release; }

    void copy_data(void *to, const void *from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};

} // namespace

// From now on, tensors of the CPU get their memory from `take` and return it to `give`.
extern "C" void trainer_allocate_by(Take taking, Give giving) noexcept {
    // Never destroyed: threads may still allocate while the process ends.
    static auto *const allocator = new Caching;
    take = taking;
    give = giving;
    c10::SetCPUAllocator(allocator, 1);
}
