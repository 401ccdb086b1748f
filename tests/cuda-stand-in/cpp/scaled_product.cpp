// The product of two matrices in fp8 with scales, with the refusals of CUDA's.
#include "capture.h"
#include "collectives.h"
#include "operations.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>
#include <torch/library.h>

#include <cstdlib>
#include <string>

namespace stand_in {
namespace {

using at::ScalarType;
using at::Tensor;

// The compute capability of the device, times ten.
int capability() {
    const char *set = std::getenv("CUDA_STAND_IN_CAPABILITY");
    return set ? static_cast<int>(std::stod(set) * 10 + 0.5) : 90;
}

bool is_for_rows(const Tensor &matrix, const Tensor &scale) {
    return scale.scalar_type() == at::kFloat && scale.dim() == 2 && scale.size(0) == matrix.size(0) && scale.size(1) == 1 &&
           scale.is_contiguous();
}

bool is_for_all(const Tensor &scale) { return scale.scalar_type() == at::kFloat && scale.numel() == 1; }

void check(const Tensor &a, const Tensor &b, const Tensor &scale_a, const Tensor &scale_b, const std::optional<Tensor> &bias,
           ScalarType out) {
    TORCH_CHECK(capability() >= 89,
                "torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9, or ROCm MI300+");
    TORCH_CHECK(a.is_cuda() && b.is_cuda() && scale_a.is_cuda() && scale_b.is_cuda() && (!bias || bias->is_cuda()),
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!");
    TORCH_CHECK(a.dim() == 2, "mat1 must be a matrix");
    TORCH_CHECK(b.dim() == 2, "mat2 must be a matrix");
    TORCH_CHECK(a.size(1) == b.size(0), "mat1 and mat2 shapes cannot be multiplied (", a.size(0), "x", a.size(1), " and ",
                b.size(0), "x", b.size(1), ")");
    TORCH_CHECK((is_for_all(scale_a) && is_for_all(scale_b)) || (is_for_rows(a, scale_a) && is_for_rows(b.t(), scale_b.t())),
                "Invalid scaling configuration.");
    TORCH_CHECK(!bias || bias->numel() == b.size(1), "Bias must be size ", b.size(1), " but got ", bias->numel());
    TORCH_CHECK(a.size(1) % 16 == 0, "Expected trailing dimension of mat1 to be divisible by 16 but got mat1 shape: (", a.size(0),
                "x", a.size(1), ").");
    TORCH_CHECK(b.size(0) % 16 == 0 && b.size(1) % 16 == 0, "mat2 shape (", b.size(0), "x", b.size(1),
                ") must be divisible by 16");
    TORCH_CHECK(at::isFloat8Type(a.scalar_type()), "Expected mat1 to be Float8 or Float4_x2 matrix got ", a.scalar_type());
    TORCH_CHECK(at::isFloat8Type(b.scalar_type()), "Expected mat2 to be Float8 or Float4_x2 matrix got ", b.scalar_type());
    TORCH_CHECK(!bias || bias->scalar_type() == at::kBFloat16 || bias->scalar_type() == at::kHalf,
                "Bias must be BFloat16 or Half, but got ", bias->scalar_type());
    TORCH_CHECK(!bias || out != at::kBFloat16 || bias->scalar_type() == at::kBFloat16, "Bias must be BFloat16 to compute ", out,
                " output, but got ", bias->scalar_type());
    // What cuBLAS asks of its operands: the first by rows, the second by columns.
    TORCH_CHECK(a.stride(1) == 1 && b.stride(0) == 1, "Invalid strides/sizes, got ", a.strides(), " for strides and ", a.sizes(),
                " for sizes");
}

Tensor scaled_product(const Tensor &a, const Tensor &b, const Tensor &scale_a, const Tensor &scale_b,
                      const std::optional<Tensor> &bias, const std::optional<Tensor> &, std::optional<ScalarType> kind, bool) {
    const auto out = kind.value_or(a.scalar_type());
    check(a, b, scale_a, scale_b, bias, out);
    catch_up_with_stream();
    const auto compute = [out](const std::vector<Tensor> &operands) {
        at::AutoDispatchBelowADInplaceOrView guard;
        const auto single = [&](size_t i) { return on_host(operands[i]).to(at::kFloat); };
        Tensor product = at::matmul(single(0), single(1)).mul(single(2)).mul(single(3));
        if (operands[4].defined()) product = at::add(product, single(4));
        return std::vector<Tensor>{on_device(product.to(out))};
    };
    return computed("_scaled_mm", {a, b, scale_a, scale_b, bias.value_or(Tensor())}, compute)[0];
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, library) { library.impl("_scaled_mm", TORCH_FN(scaled_product)); }

}  // namespace stand_in
