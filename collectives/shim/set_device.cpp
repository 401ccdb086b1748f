// Sets the GPU of the calling thread, which tch does not do. It goes through c10's registry of devices, so that nothing of
// CUDA is needed to build or to link.
#include <c10/core/Device.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstddef>
#include <cstdio>
#include <exception>

// 0, or 1 and a message of at most `length` bytes.
extern "C" int collectives_set_device(int index, char *message, std::size_t length) noexcept {
    try {
        const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
        const c10::impl::VirtualGuardImpl guard(device.type());
        guard.setDevice(device);
        return 0;
    } catch (const std::exception &error) {
        std::snprintf(message, length, "%s", error.what());
    } catch (...) {
        std::snprintf(message, length, "unknown C++ exception");
    }
    return 1;
}
