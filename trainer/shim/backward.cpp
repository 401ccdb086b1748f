// The backward pass from a tensor with a given gradient, which tch does not have. libtorch's C interface has it, but writes
// the text of an error to standard error and forgets it.
#include "caught.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Logging.h>

// Returns as `caught` does.
extern "C" int trainer_backward(const void *output, const void *gradient, int keep_graph, char *message,
                                std::size_t length) noexcept {
    return caught(message, length, [&] {
        const auto &root = *static_cast<const at::Tensor *>(output);
        root.backward(*static_cast<const at::Tensor *>(gradient), keep_graph != 0);
    });
}

// How many handles hold a tensor, among them those that autograd keeps for backward passes, and an address that only these
// have in common.
extern "C" std::size_t trainer_owners(const void *tensor, const void **identity) noexcept {
    const auto &held = *static_cast<const at::Tensor *>(tensor);
    *identity = held.unsafeGetTensorImpl();
    return held.use_count();
}

// libtorch's C interface logs the text of an error, with frames of C++, before its caller knows whether it has another way.
extern "C" void trainer_log_nothing() noexcept { FLAGS_caffe2_log_level = c10::GLOG_FATAL; }
