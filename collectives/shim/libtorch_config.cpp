// What libtorch says of its version and of how it was built, which tch does not tell.
#include <ATen/Version.h>

#include <cstddef>
#include <cstdio>
#include <exception>

// 0 and the text, cut to `length` bytes with a zero byte at its end; or 1 and a message instead.
extern "C" int collectives_libtorch_config(char *text, std::size_t length) noexcept {
    try {
        std::snprintf(text, length, "%s", at::show_config().c_str());
        return 0;
    } catch (const std::exception &error) {
        std::snprintf(text, length, "%s", error.what());
    } catch (...) {
        std::snprintf(text, length, "unknown C++ exception");
    }
    return 1;
}
