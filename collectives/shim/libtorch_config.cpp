// Returns the version and the build settings of libtorch, which tch does not expose.
#include "caught.h"

#include <ATen/Version.h>

// Gives the text, cut to `length` bytes with a zero byte at its end. Returns as `caught` does, with the message in `text`.
extern "C" int collectives_libtorch_config(char *text, std::size_t length) noexcept {
    return caught(text, length, [&] { std::snprintf(text, length, "%s", at::show_config().c_str()); });
}
