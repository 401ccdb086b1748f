// Attention on a GPU: which of libtorch's kernels computes it, and why one does not. libtorch has the reasons only as warnings.
#include "caught.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_sdp_choice.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using at::SDPBackend;
using at::Tensor;

std::int64_t choice(const Tensor &query, const Tensor &key, const Tensor &value) {
    return at::_fused_sdp_choice(query, key, value, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/false);
}

// The order in which libtorch tries its kernels on this GPU. libtorch sets it when it chooses for the first time, over
// whatever was set before.
const std::vector<std::int64_t> &own_order(int index) {
    static const std::vector<std::int64_t> order = [&] {
        const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
        const auto any = at::zeros({1, 1, 8, 8}, at::TensorOptions().device(device).dtype(at::kHalf));
        choice(any, any, any);
        std::vector<std::int64_t> found;
        for (const auto kernel : at::globalContext().sDPPriorityOrder()) found.push_back(static_cast<std::int64_t>(kernel));
        return found;
    }();
    return order;
}

// Lets libtorch use one kernel only, for the life of this object.
class Only {
  public:
    explicit Only(SDPBackend kernel)
        : flash_(context_.userEnabledFlashSDP()), efficient_(context_.userEnabledMemEfficientSDP()),
          cudnn_(context_.userEnabledCuDNNSDP()), math_(context_.userEnabledMathSDP()) {
        set(kernel == SDPBackend::flash_attention, kernel == SDPBackend::efficient_attention,
            kernel == SDPBackend::cudnn_attention, kernel == SDPBackend::math);
    }
    ~Only() { set(flash_, efficient_, cudnn_, math_); }
    Only(const Only &) = delete;
    Only &operator=(const Only &) = delete;

  private:
    void set(bool flash, bool efficient, bool cudnn, bool math) {
        context_.setSDPUseFlash(flash);
        context_.setSDPUseMemEfficient(efficient);
        context_.setSDPUseCuDNN(cudnn);
        context_.setSDPUseMath(math);
    }

    at::Context &context_ = at::globalContext();
    const bool flash_, efficient_, cudnn_, math_;
};

// Collects the reasons. Those of the kernels that were turned off say nothing.
struct Reasons final : c10::WarningHandler {
    std::string text;

    void process(const c10::Warning &warning) override {
        const std::string &said = warning.msg();
        const auto has = [&](const char *part) { return said.find(part) != std::string::npos; };
        if (has("not used because") || has("runtime disabled") || text.find(said) != std::string::npos) return;
        text += (text.empty() ? "" : "; ") + said;
    }
};

}  // namespace

// Lets libtorch try a kernel before all others, or with -1 in its own order. Returns 0 if it does.
extern "C" int trainer_prefer_attention(int index, int kernel) noexcept {
    return caught(nullptr, 0, [&] {
        auto order = own_order(index);
        const auto preferred = std::find(order.begin(), order.end(), static_cast<std::int64_t>(kernel));
        if (kernel >= 0 && preferred == order.end()) throw std::invalid_argument("no such kernel");
        if (kernel >= 0) std::rotate(order.begin(), preferred, preferred + 1);
        at::globalContext().setSDPPriorityOrder(order);
    });
}

// The kernel that libtorch would use for these tensors; -1 if it refuses them.
extern "C" int trainer_attention_kernel(const void *query, const void *key, const void *value) noexcept {
    int found = -1;
    const auto tensor = [](const void *handle) -> const Tensor & { return *static_cast<const Tensor *>(handle); };
    caught(nullptr, 0, [&] { found = static_cast<int>(choice(tensor(query), tensor(key), tensor(value))); });
    return found;
}

// Whether a kernel serves these tensors. Returns 0, or 1 and why it does not.
extern "C" int trainer_attention_is_refused(int kernel, const void *query, const void *key, const void *value, char *message,
                                            std::size_t length) noexcept {
    const auto tensor = [](const void *handle) -> const Tensor & { return *static_cast<const Tensor *>(handle); };
    return caught(message, length, [&] {
        Reasons reasons;
        const Only only(static_cast<SDPBackend>(kernel));
        const c10::WarningUtils::WarningHandlerGuard guard(&reasons);
        std::int64_t found = -1;
        std::string error;
        try {
            found = choice(tensor(query), tensor(key), tensor(value));
        } catch (const c10::Error &refusal) {
            error = refusal.what_without_backtrace();
        }
        if (found != kernel) throw std::runtime_error(reasons.text.empty() ? error : reasons.text);
    });
}
