// Stream capture, and the graphs that it makes.
#include "capture.h"

#include "collectives.h"
#include "counters.h"
#include "memory.h"
#include "operations.h"
#include "streams.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

#include <atomic>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

// As the CUDA runtime declares it.
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal = 0,
    cudaStreamCaptureModeThreadLocal = 1,
    cudaStreamCaptureModeRelaxed = 2
};

namespace stand_in {
namespace {

struct Node {
    std::string name;
    std::function<void()> work;
};

struct Capture {
    std::uint64_t number;
    c10::StreamId stream;
    std::thread::id thread;
    cudaStreamCaptureMode mode;
    // Memory that the program has freed: kernels of the graph have its address.
    std::vector<std::unique_ptr<void, decltype(&std::free)>> freed;
    std::vector<Node> nodes;
    bool is_invalid = false;
};

std::mutex lock;
// The capture under way: one at a time serves.
std::shared_ptr<Capture> under_way;
// Read before each operation.
std::atomic<bool> any{false};

std::mutex lock_of_owners;
// Never destroyed: tensors are freed after static destructors have run.
std::map<std::uint64_t, std::weak_ptr<Capture>> &owners() {
    static auto *all = new std::map<std::uint64_t, std::weak_ptr<Capture>>;
    return *all;
}

std::shared_ptr<Capture> of_this_stream() {
    if (!any.load()) return nullptr;
    std::lock_guard<std::mutex> guard(lock);
    return under_way && under_way->stream == current_stream().id() ? under_way : nullptr;
}

[[noreturn]] void refuse(Capture &capture, const char *what) {
    capture.is_invalid = true;
    TORCH_CHECK(false, "CUDA error: operation not permitted when stream is capturing (", what, ")");
}

}  // namespace

bool is_capturing() { return of_this_stream() != nullptr; }

std::uint64_t owner_of_memory() {
    const auto capture = of_this_stream();
    return capture ? capture->number : 0;
}

bool keep_for_graph(std::uint64_t owner, void *block) {
    std::lock_guard<std::mutex> guard(lock_of_owners);
    const auto found = owners().find(owner);
    const auto capture = found == owners().end() ? nullptr : found->second.lock();
    if (capture) capture->freed.emplace_back(block, &std::free);
    return capture != nullptr;
}

void refuse_while_capturing(const char *what) {
    if (const auto capture = of_this_stream()) refuse(*capture, what);
}

void refuse_wait_while_capturing(const char *what) {
    if (!any.load()) return;
    std::lock_guard<std::mutex> guard(lock);
    if (!under_way) return;
    const bool own = under_way->thread == std::this_thread::get_id();
    const auto mode = under_way->mode;
    if (mode == cudaStreamCaptureModeGlobal || (mode == cudaStreamCaptureModeThreadLocal && own)) refuse(*under_way, what);
}

void record(const std::string &name, std::function<void()> work) {
    const auto capture = of_this_stream();
    TORCH_CHECK(capture, "the stand-in records without a capture");
    count_captured();
    std::lock_guard<std::mutex> guard(lock);
    capture->nodes.push_back({name, std::move(work)});
}

CapturedTensor::CapturedTensor(const at::Tensor &tensor)
    : outside_(c10::intrusive_ptr<c10::StorageImpl>()) {
    if (!tensor.defined()) return;
    auto *impl = tensor.unsafeGetTensorImpl();
    if (!tensor.is_cuda()) {
        // Its numbers become parameters of the kernel.
        kept_ = tensor.detach().clone();
        kept_.unsafeGetTensorImpl()->set_wrapped_number(impl->is_wrapped_number());
        return;
    }
    if (!tensor.has_storage() || tensor.storage().nbytes() == 0 || is_of_graphs(tensor.storage().data())) {
        // Its own sizes and storage: the program may change those of the tensor.
        kept_ = at::Tensor(impl->shallow_copy_and_detach(c10::VariableVersion(), false));
        return;
    }
    is_outside_ = true;
    outside_ = c10::weak_intrusive_ptr<c10::StorageImpl>(tensor.storage().getWeakStorageImpl());
    data_ = tensor.storage().data();
    sizes_ = tensor.sizes().vec();
    strides_ = tensor.strides().vec();
    offset_ = tensor.storage_offset();
    kind_ = tensor.dtype();
}

at::Tensor CapturedTensor::get() const {
    if (!is_outside_) return kept_;
    auto storage = outside_.lock();
    TORCH_CHECK(storage && storage->data() == data_,
                "a CUDA graph uses memory that was allocated outside of its capture and is free now");
    at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
        c10::Storage(std::move(storage)), c10::DispatchKeySet(c10::DispatchKey::CUDA), kind_);
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes_, strides_, offset_);
    return tensor;
}

at::Tensor without_values(const at::Tensor &tensor) {
    if (!tensor.defined() || !tensor.is_cuda() || tensor.numel() == 0) return tensor;
    at::AutoDispatchBelowADInplaceOrView guard;
    at::NoGradGuard no_graph;
    if (tensor.is_floating_point()) on_host(tensor).fill_(std::numeric_limits<double>::quiet_NaN());
    else on_host(tensor).zero_();
    return tensor;
}

std::vector<at::Tensor> computed(const std::string &name, const std::vector<at::Tensor> &inputs, const Compute &compute) {
    if (!is_capturing()) {
        count_operation(name);
        return compute(inputs);
    }
    std::vector<CapturedTensor> of_graph(inputs.begin(), inputs.end());
    auto results = compute(inputs);
    for (const at::Tensor &result : results) without_values(result);
    std::vector<CapturedTensor> places(results.begin(), results.end());
    record(name, [of_graph, places, compute] {
        std::vector<at::Tensor> now;
        for (const CapturedTensor &tensor : of_graph) now.push_back(tensor.get());
        const auto again = compute(now);
        for (size_t i = 0; i < places.size(); ++i) {
            const at::Tensor place = places[i].get();
            if (place.defined()) on_host(place).copy_(on_host(again[i]));
        }
    });
    return results;
}

namespace {

// A graph of libtorch is private memory and a list of operations; another one may share the memory.
struct Graph {
    std::shared_ptr<Capture> capture;
    bool is_done = false;
    std::pair<unsigned long long, unsigned long long> pool{0, 0};
};

std::shared_ptr<Capture> begin(cudaStreamCaptureMode mode) {
    TORCH_CHECK(current_stream().id() != 0,
                "CUDA graphs must be captured on a non-default stream. (However, after capture, it's ok to replay them on the "
                "default stream.)");
    std::lock_guard<std::mutex> guard(lock);
    TORCH_CHECK(!under_way, "the stand-in captures one graph at a time");
    auto capture = std::make_shared<Capture>();
    {
        std::lock_guard<std::mutex> guard(lock_of_owners);
        static std::uint64_t last = 0;
        capture->number = ++last;
        owners()[last] = capture;
    }
    capture->stream = current_stream().id();
    capture->thread = std::this_thread::get_id();
    capture->mode = mode;
    under_way = capture;
    any = true;
    return capture;
}

void end(const std::shared_ptr<Capture> &capture) {
    std::lock_guard<std::mutex> guard(lock);
    TORCH_CHECK(capture && under_way == capture, "capture_end() called before capture_begin().");
    TORCH_CHECK(current_stream().id() == capture->stream, "Capture must end on the same stream it began on.");
    under_way = nullptr;
    any = false;
    TORCH_CHECK(!capture->is_invalid, "CUDA error: operation failed due to a previous error during capture");
}

}  // namespace
}  // namespace stand_in

// The members of `at::cuda::CUDAGraph`, whose object holds a pointer here. `src/lib.rs` exports them under their names: the linker
// hides what is not exported by Rust.
using stand_in::Graph;
using PoolId = std::pair<unsigned long long, unsigned long long>;

extern "C" void stand_in_graph_construct(Graph **object) { *object = new Graph; }

extern "C" void stand_in_graph_destroy(Graph **object) { delete *object; }

extern "C" void stand_in_graph_reset(Graph **object) { **object = Graph{}; }

extern "C" void stand_in_graph_capture_begin(Graph **object, PoolId pool, cudaStreamCaptureMode mode) {
    static std::atomic<unsigned long long> last{0};
    Graph &graph = **object;
    TORCH_CHECK(!graph.is_done,
                "This CUDAGraph instance already owns a captured graph. To capture a new graph, create a new instance.");
    graph.pool = pool.first || pool.second ? pool : PoolId{++last, 0};
    graph.capture = stand_in::begin(mode);
}

extern "C" void stand_in_graph_capture_end(Graph **object) {
    stand_in::end((*object)->capture);
    (*object)->is_done = true;
    stand_in::count_graph(/*replayed=*/0);
}

extern "C" void stand_in_graph_replay(Graph **object) {
    const Graph &graph = **object;
    TORCH_CHECK(graph.is_done, "Called CUDAGraph::replay without a preceding successful capture.");
    TORCH_CHECK(!stand_in::is_capturing(), "the stand-in captures no replay");
    stand_in::catch_up_with_stream();
    stand_in::drain(stand_in::current_stream());
    at::NoGradGuard no_graph;
    for (const auto &node : graph.capture->nodes) node.work();
    stand_in::count_graph(static_cast<std::int64_t>(graph.capture->nodes.size()));
}

extern "C" PoolId stand_in_graph_pool(Graph **object) {
    TORCH_CHECK((*object)->is_done, "Called CUDAGraph::pool() without a preceding successful capture.");
    return (*object)->pool;
}

// A graph for tests of the stand-in itself, which cannot catch exceptions of C++: begins a capture in a stream of the pool (0) or
// in the default stream (1), ends it (2), replays (3), destroys (4). Returns the message of a refusal, or null.
extern "C" const char *stand_in_graph_act(Graph **object, int action) {
    using namespace stand_in;
    static thread_local std::string message;
    message.clear();
    try {
        switch (action) {
            case 0: exchange_stream(stream_of_pool()); [[fallthrough]];
            case 1:
                stand_in_graph_construct(object);
                stand_in_graph_capture_begin(object, {0, 0}, cudaStreamCaptureModeThreadLocal);
                break;
            case 2: stand_in_graph_capture_end(object); break;
            case 3: stand_in_graph_replay(object); break;
            default: stand_in_graph_destroy(object);
        }
    } catch (const c10::Error &error) {
        message = error.what_without_backtrace();
    }
    if (action != 0) exchange_stream(c10::Stream(c10::Stream::DEFAULT, gpu()));
    return message.empty() ? nullptr : message.c_str();
}
