// Tensors of the device as tensors of the CPU, and back.
#pragma once
#include <ATen/core/Tensor.h>

namespace stand_in {

// The same memory as a tensor of the CPU; a tensor of the CPU as it is.
at::Tensor on_host(const at::Tensor &tensor);
// A new tensor of the device with these values.
at::Tensor on_device(const at::Tensor &host);
// An uninitialised tensor of the device.
at::Tensor empty(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType kind);
// Changes last bits at random, as atomic additions in a changing order do, unless deterministic algorithms are requested.
void add_in_any_order(const at::Tensor &host);

}  // namespace stand_in
