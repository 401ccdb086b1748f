// Returns the current stream of libtorch, which tch does not expose. It uses the device registry of c10, so the build
// needs neither CUDA headers nor CUDA libraries.
#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstddef>
#include <cstdio>
#include <exception>

// Returns 0 and the native handle (a cudaStream_t; null is the default stream), or 1 and a message of at most `length`
// bytes.
extern "C" int collectives_current_stream(int index, void **stream, char *message, std::size_t length) noexcept {
    try {
        const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
        const c10::impl::VirtualGuardImpl guard(device.type());
        *stream = guard.getStream(device).native_handle();
        return 0;
    } catch (const std::exception &error) {
        std::snprintf(message, length, "%s", error.what());
    } catch (...) {
        std::snprintf(message, length, "unknown C++ exception");
    }
    return 1;
}
