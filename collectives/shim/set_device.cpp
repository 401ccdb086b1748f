// Sets the GPU of the calling thread, which tch does not do. It uses the device registry of c10, so the build needs
// neither CUDA headers nor CUDA libraries.
#include "caught.h"

#include <c10/core/Device.h>
#include <c10/core/impl/VirtualGuardImpl.h>

// Returns as `caught` does.
extern "C" int collectives_set_device(int index, char *message, std::size_t length) noexcept {
    return caught(message, length, [&] {
        const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
        const c10::impl::VirtualGuardImpl guard(device.type());
        guard.setDevice(device);
    });
}
