// Attention: the choice between implementations as CUDA makes it, and the implementations.
//
// As on a GPU, the fused kernels add gradients in any order unless deterministic algorithms are requested.
#include "capture.h"
#include "collectives.h"
#include "operations.h"

#include <ATen/Context.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <torch/library.h>

namespace stand_in {
namespace {

using at::Tensor;
using Scale = std::optional<double>;

using at::ScalarType;
using sdp::SDPBackend;
using sdp::sdp_params;

// Whether a kernel serves the tensors. With `debug` it warns of the reason why it does not, in the words of CUDA's.
using Check = bool (*)(const sdp_params &, bool debug);

bool refused(bool debug, const std::string &reason) {
    if (debug) TORCH_WARN(reason);
    return false;
}

bool has_shapes(const sdp_params &params, bool debug) {
    return sdp::check_tensor_shapes(params, debug) && sdp::check_batch_size_and_num_heads_dense<false>(params, debug) &&
           sdp::check_nonzero_sequence_lengths_dense(params, debug) &&
           sdp::check_last_dim_stride_equals_1_dense<true>(params, debug);
}

bool is_half(const sdp_params &params, bool debug) {
    return sdp::check_tensor_dtype(params, std::array<ScalarType, 2>{at::kHalf, at::kBFloat16}, debug);
}

bool flash_serves(const sdp_params &params, bool debug) {
    if (!sdp::check_runtime_disabled_flash(params, debug) || !sdp::check_for_attn_mask(params, debug)) return false;
    if (params.query.size(-1) > 256)
        return refused(debug, "Flash attention requires q,k,v to have the same last dimension and to be less than or equal to 256.");
    return is_half(params, debug) && has_shapes(params, debug);
}

bool efficient_serves(const sdp_params &params, bool debug) {
    if (!sdp::check_runtime_disabled_mem_efficient(params, debug)) return false;
    const int64_t alignment = params.query.scalar_type() == at::kFloat ? 4 : 8;
    if (params.query.size(-1) % alignment != 0)
        return refused(debug, "Mem efficient attention requires last dimension of inputs to be divisible by " +
                                  std::to_string(alignment) + ". ");
    return has_shapes(params, debug) &&
           sdp::check_tensor_dtype(params, std::array<ScalarType, 3>{at::kHalf, at::kFloat, at::kBFloat16}, debug);
}

bool cudnn_serves(const sdp_params &params, bool debug) {
    const auto &context = at::globalContext();
    if (!context.userEnabledCuDNNSDP()) return refused(debug, "cuDNN attention has been runtime disabled.");
    if (context.deterministicAlgorithms()) return refused(debug, "cuDNN SDPA is not deterministic.");
    if (!is_half(params, debug) || !has_shapes(params, debug)) return false;
    if (params.query.size(-1) > 128) return refused(debug, "head_dim should be no more than 128");
    if (params.query.size(-1) % 8 != 0) return refused(debug, "head_dim should be a multiple of 8");
    if (params.key.size(2) == 1) return refused(debug, "cudnn SDPA does not support key/value sequence length 1.");
    return true;
}

bool math_serves(const sdp_params &, bool) { return at::globalContext().userEnabledMathSDP(); }

// The first kernel, in the order of the context, that serves the tensors.
int64_t choose(const Tensor &query, const Tensor &key, const Tensor &value, const std::optional<Tensor> &mask, double dropout,
               bool causal, Scale, bool grouped) {
    const sdp_params params{query, key, value, mask, dropout, causal, grouped};
    const auto check = [](SDPBackend kernel) -> Check {
        switch (kernel) {
            case SDPBackend::flash_attention: return &flash_serves;
            case SDPBackend::efficient_attention: return &efficient_serves;
            case SDPBackend::cudnn_attention: return &cudnn_serves;
            case SDPBackend::math: return &math_serves;
            default: return nullptr;
        }
    };
    for (const auto kernel : at::globalContext().sDPPriorityOrder())
        if (const Check serves = check(kernel); serves && serves(params, false)) return static_cast<int64_t>(kernel);
    TORCH_WARN("Memory efficient kernel not used because:");
    efficient_serves(params, true);
    TORCH_WARN("Flash attention kernel not used because:");
    flash_serves(params, true);
    TORCH_WARN("cuDNN attention kernel not used because:");
    cudnn_serves(params, true);
    TORCH_CHECK(false, "No available kernel. Aborting execution.");
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

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor> cudnn(
    const Tensor &query, const Tensor &key, const Tensor &value, const std::optional<Tensor> &, bool, double dropout, bool causal,
    bool, Scale scale) {
    auto [output, logsumexp] = forward("cudnn_attention", query, key, value, dropout, causal, scale);
    return {output, logsumexp, Tensor(), Tensor(), query.size(2), key.size(2), nothing(), nothing(), Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> cudnn_backward(const Tensor &gradient, const Tensor &query, const Tensor &key,
                                                  const Tensor &value, const Tensor &output, const Tensor &logsumexp,
                                                  const Tensor &, const Tensor &, const Tensor &, const Tensor &,
                                                  const Tensor &, c10::SymInt, c10::SymInt, double dropout, bool causal,
                                                  Scale scale) {
    auto [of_query, of_key, of_value] =
        backward("cudnn_attention_backward", gradient, query, key, value, output, logsumexp, dropout, causal, scale);
    return {of_query, of_key, of_value};
}

const bool chosen = (at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&choose), true);

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
    library.impl("_fused_sdp_choice", TORCH_FN(choose));
    library.impl("_scaled_dot_product_cudnn_attention", TORCH_FN(cudnn));
    library.impl("_scaled_dot_product_cudnn_attention_backward", TORCH_FN(cudnn_backward));
    library.impl("_scaled_dot_product_flash_attention", TORCH_FN(flash));
    library.impl("_scaled_dot_product_flash_attention_backward", TORCH_FN(flash_backward));
    library.impl("_scaled_dot_product_efficient_attention", TORCH_FN(efficient));
    library.impl("_scaled_dot_product_efficient_attention_backward", TORCH_FN(efficient_backward));
}

}  // namespace stand_in
