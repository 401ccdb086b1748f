// Attention: the choice between implementations as CUDA makes it, and the implementations.
//
// As on a GPU, the fused kernels add gradients in any order unless deterministic algorithms are requested.
#include "capture.h"
#include "collectives.h"
#include "operations.h"

#include <ATen/Context.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <torch/library.h>

namespace stand_in {
namespace {

using at::Tensor;
using Scale = std::optional<double>;

// at::SDPBackend.
enum Backend : int64_t { MATH = 0, FLASH = 1, EFFICIENT = 2 };

int64_t choose(const Tensor &query, const Tensor &, const Tensor &, const std::optional<Tensor> &mask, double, bool, Scale,
               bool) {
    const auto &context = at::globalContext();
    const auto kind = query.scalar_type();
    const bool half = kind == at::kBFloat16 || kind == at::kHalf;
    if (half && !mask && context.userEnabledFlashSDP()) return FLASH;
    if (kind != at::kDouble && query.size(-1) % (half ? 8 : 4) == 0 && context.userEnabledMemEfficientSDP()) return EFFICIENT;
    return MATH;
}

void check_devices(const Tensor &query, const Tensor &key, const Tensor &value) {
    TORCH_CHECK(query.is_cuda() && key.is_cuda() && value.is_cuda(),
                "Expected query, key and value to be on the same device: attention got a tensor on cpu beside cuda:0");
}

struct Forward {
    Tensor output, logsumexp;
};

Forward forward(const char *name, const Tensor &query, const Tensor &key, const Tensor &value, double dropout, bool causal,
                Scale scale) {
    check_devices(query, key, value);
    catch_up_with_stream();
    const auto results = computed(name, {query, key, value}, [dropout, causal, scale](const std::vector<Tensor> &operands) {
        at::AutoDispatchBelowADInplaceOrView guard;
        auto [output, logsumexp] = at::_scaled_dot_product_flash_attention_for_cpu(
            on_host(operands[0]), on_host(operands[1]), on_host(operands[2]), dropout, causal, {}, scale);
        // As CUDA's kernels write it: the heads of a token lie together.
        const auto rows = output.transpose(1, 2).contiguous();
        const auto sizes = output.sizes();
        const std::vector<int64_t> strides = {rows.stride(0), rows.stride(2), rows.stride(1), rows.stride(3)};
        Tensor device = empty(sizes, strides, output.scalar_type());
        on_host(device).copy_(output);
        return std::vector<Tensor>{device, on_device(logsumexp)};
    });
    return {results[0], results[1]};
}

std::array<Tensor, 3> backward(const char *name, const Tensor &gradient, const Tensor &query, const Tensor &key,
                               const Tensor &value, const Tensor &output, const Tensor &logsumexp, double dropout, bool causal,
                               Scale scale) {
    check_devices(query, key, value);
    catch_up_with_stream();
    const auto compute = [dropout, causal, scale](const std::vector<Tensor> &all) {
        at::AutoDispatchBelowADInplaceOrView guard;
        auto [of_query, of_key, of_value] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
            on_host(all[0]), on_host(all[1]), on_host(all[2]), on_host(all[3]), on_host(all[4]), on_host(all[5]), dropout,
            causal, {}, scale);
        std::vector<Tensor> gradients = {of_query.contiguous(), of_key.contiguous(), of_value.contiguous()};
        for (Tensor &one : gradients) {
            add_in_any_order(one);
            one = on_device(one);
        }
        return gradients;
    };
    const auto gradients = computed(name, {gradient, query, key, value, output, logsumexp}, compute);
    return {gradients[0], gradients[1], gradients[2]};
}

Tensor nothing() { return empty({0}, {1}, at::kLong); }

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor> flash(
    const Tensor &query, const Tensor &key, const Tensor &value, double dropout, bool causal, bool, Scale scale) {
    auto [output, logsumexp] = forward("flash_attention", query, key, value, dropout, causal, scale);
    return {output, logsumexp, Tensor(), Tensor(), query.size(2), key.size(2), nothing(), nothing(), nothing()};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(const Tensor &gradient, const Tensor &query, const Tensor &key,
                                                  const Tensor &value, const Tensor &output, const Tensor &logsumexp,
                                                  const Tensor &, const Tensor &, c10::SymInt, c10::SymInt, double dropout,
                                                  bool causal, const Tensor &, const Tensor &, Scale scale) {
    auto [of_query, of_key, of_value] =
        backward("flash_attention_backward", gradient, query, key, value, output, logsumexp, dropout, causal, scale);
    return {of_query, of_key, of_value};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient(const Tensor &query, const Tensor &key, const Tensor &value,
                                                     const std::optional<Tensor> &, bool, double dropout, bool causal,
                                                     Scale scale) {
    auto [output, logsumexp] = forward("efficient_attention", query, key, value, dropout, causal, scale);
    return {output, logsumexp, nothing(), nothing()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient_backward(const Tensor &gradient, const Tensor &query, const Tensor &key,
                                                              const Tensor &value, const Tensor &, const Tensor &output,
                                                              const Tensor &logsumexp, const Tensor &, const Tensor &,
                                                              double dropout, std::array<bool, 4>, bool causal, Scale scale) {
    auto [of_query, of_key, of_value] =
        backward("efficient_attention_backward", gradient, query, key, value, output, logsumexp, dropout, causal, scale);
    return {of_query, of_key, of_value, Tensor()};
}

const bool chosen = (at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&choose), true);

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
    library.impl("_scaled_dot_product_flash_attention", TORCH_FN(flash));
    library.impl("_scaled_dot_product_flash_attention_backward", TORCH_FN(flash_backward));
    library.impl("_scaled_dot_product_efficient_attention", TORCH_FN(efficient));
    library.impl("_scaled_dot_product_efficient_attention_backward", TORCH_FN(efficient_backward));
}

}  // namespace stand_in
