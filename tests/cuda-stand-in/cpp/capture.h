// Stream capture: what is put into a stream under capture is recorded for a graph, and not done.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace stand_in {

// Whether the current stream of this thread is being captured.
bool is_capturing();
// The number of that capture, whose graph owns what is allocated now; 0 without one.
std::uint64_t owner_of_memory();
// Gives a block that is freed to the graph that owns it, for its replays; false if that is gone.
bool keep_for_graph(std::uint64_t owner, void *block);
// Refuses what a capture does not permit, for example a wait of the host: it ends the capture, as it does on a GPU.
void refuse_while_capturing(const char *what);
// The same for waits of the host by the thread that captures, whatever it waits for.
void refuse_wait_while_capturing(const char *what);

// A tensor as a graph knows it: an address, sizes and strides. Memory that was allocated during the capture stays valid as long
// as the graph; other memory does not, and a replay that would use it after it was freed is refused.
class CapturedTensor {
public:
    explicit CapturedTensor(const at::Tensor &tensor);
    at::Tensor get() const;

private:
    at::Tensor kept_;
    c10::weak_intrusive_ptr<c10::StorageImpl> outside_;
    const void *data_ = nullptr;
    std::vector<int64_t> sizes_, strides_;
    int64_t offset_ = 0;
    caffe2::TypeMeta kind_;
    bool is_outside_ = false;
};

// Adds an operation to the graph.
void record(const std::string &name, std::function<void()> work);
// What a capture leaves in memory that the operation would have written: NaN, or zeros where there is none.
at::Tensor without_values(const at::Tensor &tensor);

// Computes tensors from tensors. Under capture only the shapes of the results count, and the graph computes them again.
using Compute = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor> &)>;
std::vector<at::Tensor> computed(const std::string &name, const std::vector<at::Tensor> &inputs, const Compute &compute);

}  // namespace stand_in
