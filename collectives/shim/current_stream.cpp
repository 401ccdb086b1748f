// Returns the current stream of libtorch, which tch does not expose. It uses the device registry of c10, so the build
// needs neither CUDA headers nor CUDA libraries.
#include "caught.h"

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

// Gives the native handle (a cudaStream_t; null is the default stream). Returns as `caught` does.
extern "C" int collectives_current_stream(int index, void **stream, char *message, std::size_t length) noexcept {
    return caught(message, length, [&] {
        const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
        const c10::impl::VirtualGuardImpl guard(device.type());
        *stream = guard.getStream(device).native_handle();
    });
}
