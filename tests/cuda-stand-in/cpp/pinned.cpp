#include "pinned.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

namespace stand_in {
namespace {

// Ordinary memory whose ranges are known.
class Pinned final : public c10::Allocator {
public:
    c10::DataPtr allocate(size_t bytes) override {
        void *data = nullptr;
        if (posix_memalign(&data, 64, bytes ? bytes : 1)) throw std::bad_alloc();
        std::lock_guard<std::mutex> guard(lock_);
        ranges_[static_cast<char *>(data)] = bytes ? bytes : 1;
        return {data, data, &free_range, c10::Device(c10::kCPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &free_range; }
    void copy_data(void *to, const void *from, size_t bytes) const override { std::memcpy(to, from, bytes); }

    bool contains(const void *address) {
        std::lock_guard<std::mutex> guard(lock_);
        auto next = ranges_.upper_bound(static_cast<char *>(const_cast<void *>(address)));
        if (next == ranges_.begin()) return false;
        const auto &[start, bytes] = *--next;
        return static_cast<const char *>(address) < start + bytes;
    }

private:
    static void free_range(void *data);

    std::mutex lock_;
    std::map<char *, size_t> ranges_;
};

// Never destroyed: tensors are freed after static destructors have run.
Pinned &instance() {
    static Pinned *only = new Pinned;
    return *only;
}

void Pinned::free_range(void *data) {
    {
        std::lock_guard<std::mutex> guard(instance().lock_);
        instance().ranges_.erase(static_cast<char *>(data));
    }
    std::free(data);
}

}  // namespace

c10::Allocator &pinned_memory() { return instance(); }
bool is_pinned(const void *address) { return instance().contains(address); }

}  // namespace stand_in
