// The memory of the device: host memory under an allocator of the device type CUDA.
#pragma once
#include <c10/core/CachingDeviceAllocator.h>

namespace stand_in {

// The only device.
c10::Device gpu();
c10::DeviceAllocator &memory();
// Whether a block of memory was allocated while its stream was captured.
bool is_of_graphs(const void *data);

}  // namespace stand_in
