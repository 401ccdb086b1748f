#include "memory.h"

#include "capture.h"
#include "collectives.h"
#include "counters.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sstream>
#include <unistd.h>

namespace stand_in {
namespace {

using c10::CachingDeviceAllocator::DeviceStats;

// As CUDA's caching allocator: blocks are multiples of 512 bytes, and memory is taken from the device in larger segments.
constexpr int64_t BLOCK = 512, SEGMENT = 2 << 20;
// What a block begins with here: its size, for when it is freed, and the number of the capture whose graph owns it.
struct Header {
    int64_t size;
    std::uint64_t owner;
};
constexpr int64_t HEADER = 64;

const Header &header_of(const void *data) {
    return *reinterpret_cast<const Header *>(static_cast<const char *>(data) - HEADER);
}

int64_t round_up(int64_t bytes, int64_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

// A number of the environment, or the default.
int64_t number(const char *variable, int64_t otherwise) {
    const char *text = std::getenv(variable);
    return text && *text ? std::atoll(text) : otherwise;
}

std::string in_words(int64_t bytes) {
    std::ostringstream text;
    text.precision(2);
    text.setf(std::ios::fixed);
    if (bytes <= 1024) text << bytes << " bytes";
    else if (bytes <= 1 << 20) text << bytes / 1024.0 << " KiB";
    else if (bytes <= 1 << 30) text << bytes / 1048576.0 << " MiB";
    else text << bytes / 1073741824.0 << " GiB";
    return text.str();
}

class Memory final : public c10::DeviceAllocator {
public:
    c10::DataPtr allocate(size_t bytes) override {
        if (bytes == 0) return {nullptr, nullptr, &free_block, gpu()};
        const int64_t size = round_up(static_cast<int64_t>(bytes), BLOCK);
        take(size);
        void *block = nullptr;
        if (posix_memalign(&block, HEADER, HEADER + size)) throw std::bad_alloc();
        new (block) Header{size, owner_of_memory()};
        void *data = static_cast<char *>(block) + HEADER;
        return {data, data, &free_block, gpu()};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &free_block; }
    void copy_data(void *to, const void *from, size_t bytes) const override { std::memcpy(to, from, bytes); }

    bool initialized() override { return true; }
    void emptyCache(c10::MempoolId_t) override {
        std::lock_guard<std::mutex> guard(lock_);
        release_cache();
    }
    void recordStream(const c10::DataPtr &, c10::Stream) override {}
    DeviceStats getDeviceStats(c10::DeviceIndex) override {
        std::lock_guard<std::mutex> guard(lock_);
        return stats_;
    }
    void resetAccumulatedStats(c10::DeviceIndex) override {}
    void resetPeakStats(c10::DeviceIndex) override {
        std::lock_guard<std::mutex> guard(lock_);
        allocated().reset_peak();
        reserved().reset_peak();
    }
    std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override {
        std::lock_guard<std::mutex> guard(lock_);
        return {capacity_ - reserved().current, capacity_};
    }

private:
    static constexpr size_t ALL = 0;  // StatType::AGGREGATE
    c10::CachingAllocator::Stat &allocated() { return stats_.allocated_bytes[ALL]; }
    c10::CachingAllocator::Stat &reserved() { return stats_.reserved_bytes[ALL]; }

    static void free_block(void *data);

    void release_cache() { reserved().decrease(reserved().current - round_up(allocated().current, SEGMENT)); }

    // Accounts for a block, or refuses it in the words of CUDA's allocator.
    void take(int64_t size) {
        std::lock_guard<std::mutex> guard(lock_);
        allocations_ += 1;
        const bool fails = allocations_ == number("CUDA_STAND_IN_FAIL_ALLOCATION", 0);
        const int64_t needed = round_up(allocated().current + size, SEGMENT);
        if (needed > reserved().current) release_cache();
        if (fails || needed > capacity_) refuse(size);
        allocated().increase(size);
        reserved().increase(std::max<int64_t>(needed - reserved().current, 0));
        count_memory(allocated().current, reserved().current);
    }

    [[noreturn]] void refuse(int64_t size) {
        const int64_t unused = reserved().current - allocated().current;
        TORCH_CHECK_WITH(
            OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ",
            in_words(size > (1 << 20) ? round_up(size, SEGMENT) : size), ". GPU 0 has a total capacity of ",
            in_words(capacity_), " of which ", in_words(capacity_ - reserved().current),
            " is free. Process ", getpid(), " has ", in_words(reserved().current),
            " memory in use. Of the allocated memory ", in_words(allocated().current), " is allocated by PyTorch, and ",
            in_words(unused), " is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try "
            "setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory "
            "Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)");
    }

    std::mutex lock_;
    DeviceStats stats_;
    int64_t allocations_ = 0;
    const int64_t capacity_ = number("CUDA_STAND_IN_MEMORY", int64_t{64} << 30);
};

// Never destroyed: tensors are freed after static destructors have run.
Memory &instance() {
    static Memory *only = new Memory;
    return *only;
}

void Memory::free_block(void *data) {
    if (!data) return;
    // On a GPU freed memory goes to later work of the same stream only. Here the host may get it at once, so collectives
    // that still use it come first.
    catch_up_with_stream();
    void *block = static_cast<char *>(data) - HEADER;
    const auto [size, owner] = header_of(data);
    {
        std::lock_guard<std::mutex> guard(instance().lock_);
        instance().allocated().decrease(size);
    }
    if (owner == 0 || !keep_for_graph(owner, block)) std::free(block);
}

const bool registered = (c10::SetAllocator(c10::kCUDA, &instance()), true);

}  // namespace

c10::Device gpu() { return c10::Device(c10::kCUDA, 0); }
c10::DeviceAllocator &memory() { return instance(); }
bool is_of_graphs(const void *data) { return header_of(data).owner != 0; }

}  // namespace stand_in
