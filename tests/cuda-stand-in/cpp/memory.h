// The memory of the device: host memory under an allocator of the device type CUDA.
#pragma once
#include <c10/core/CachingDeviceAllocator.h>

namespace stand_in {

// The only device.
c10::Device gpu();
c10::DeviceAllocator &memory();

}  // namespace stand_in
