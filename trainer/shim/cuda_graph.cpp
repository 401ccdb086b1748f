// CUDA graphs of libtorch: `at::cuda::CUDAGraph`, which libtorch has only in its CUDA part and under C++ names. That part is opened
// at run time, so its functions are looked up by their symbols; nothing of CUDA is needed to build or to link.
#include "caught.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstddef>
#include <dlfcn.h>
#include <memory>
#include <new>
#include <utility>

namespace {

// Types of the CUDA runtime and of c10/cuda, as their headers declare them.
using PoolId = std::pair<unsigned long long, unsigned long long>;
enum CaptureMode : int { THREAD_LOCAL = 1 };

// The object has 104 bytes in libtorch 2.11 (c10's headers and a CUDA runtime of version 13). The storage has room for what other
// versions add, because a constructor that writes beyond it could not be noticed.
constexpr std::size_t STORAGE = 1024;

// The functions of the class. A member function takes the object first, in the C++ ABI of Linux on x86-64 and on AArch64.
struct Functions {
    void (*construct)(void *, bool);
    void (*destroy)(void *);
    void (*capture_begin)(void *, PoolId, CaptureMode);
    void (*capture_end)(void *);
    void (*replay)(void *);
    PoolId (*pool)(void *);
};

template <typename Function>
void find(Function &function, const char *symbol) {
    function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, symbol));
    TORCH_CHECK(function, "libtorch has no ", symbol);
}

const Functions &functions() {
    static const Functions all = [] {
        Functions found{};
        find(found.construct, "_ZN2at4cuda9CUDAGraphC1Eb");
        find(found.destroy, "_ZN2at4cuda9CUDAGraphD1Ev");
        find(found.capture_begin, "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
        find(found.capture_end, "_ZN2at4cuda9CUDAGraph11capture_endEv");
        find(found.replay, "_ZN2at4cuda9CUDAGraph6replayEv");
        find(found.pool, "_ZN2at4cuda9CUDAGraph4poolEv");
        return found;
    }();
    return all;
}

c10::impl::VirtualGuardImpl guard() { return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA); }

// A graph, and the streams of its capture while that is under way.
class Graph {
public:
    Graph() { functions().construct(storage_, /*keep_graph=*/false); }
    Graph(const Graph &) = delete;
    Graph &operator=(const Graph &) = delete;
    ~Graph() { functions().destroy(storage_); }

    // From here on, what this thread puts into its stream is recorded and not done. Memory comes from the pool of `beside`, or from
    // a new one.
    void begin(int index, Graph *beside) {
        const c10::Device gpu(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
        const auto pool = beside ? functions().pool(beside->storage_) : PoolId{0, 0};
        // Memory that the allocator holds for other work cannot be given back to the driver during a capture. Synchronises host
        // and device.
        guard().synchronizeDevice(gpu.index());
        c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
        own_ = guard().getStream(gpu);
        guard().exchangeStream(capture_stream(gpu));
        try {
            // Calls of other threads (uploads, the watcher of collectives, autograd's threads, which allocate) are permitted.
            functions().capture_begin(storage_, pool, THREAD_LOCAL);
        } catch (...) {
            guard().exchangeStream(own_);
            throw;
        }
    }

    void end() {
        // Back in its own stream, whatever the end of the capture says.
        struct Back {
            c10::Stream own;
            ~Back() { guard().exchangeStream(own); }
        } back{own_};
        functions().capture_end(storage_);
    }

    void replay() { functions().replay(storage_); }

private:
    // One stream for all captures: libtorch keeps a workspace of cuBLAS for each stream.
    static c10::Stream capture_stream(c10::Device gpu) {
        static const c10::Stream stream = guard().getStreamFromGlobalPool(gpu);
        return stream;
    }

    alignas(64) unsigned char storage_[STORAGE] = {};
    c10::Stream own_{c10::Stream::DEFAULT, c10::Device(c10::DeviceType::CUDA, 0)};
};

Graph &graph_of(void *graph) { return *static_cast<Graph *>(graph); }

}  // namespace

// All return as `caught` does.
extern "C" int trainer_new_graph(void **graph, char *message, std::size_t length) noexcept {
    return caught(message, length, [&] { *graph = std::make_unique<Graph>().release(); });
}

extern "C" int trainer_begin_capture(int index, void *graph, void *beside, char *message, std::size_t length) noexcept {
    return caught(message, length, [&] { graph_of(graph).begin(index, static_cast<Graph *>(beside)); });
}

extern "C" int trainer_end_capture(void *graph, char *message, std::size_t length) noexcept {
    return caught(message, length, [&] { graph_of(graph).end(); });
}

extern "C" int trainer_replay_graph(void *graph, char *message, std::size_t length) noexcept {
    return caught(message, length, [&] { graph_of(graph).replay(); });
}

// Its destructor reports errors as warnings; one that throws would end the process.
extern "C" void trainer_free_graph(void *graph) noexcept { delete static_cast<Graph *>(graph); }
