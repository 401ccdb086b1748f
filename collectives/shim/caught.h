// Exceptions of C++ as messages.
#pragma once

#include <cstddef>
#include <cstdio>
#include <exception>

// Runs `action`. Returns 0, or 1 and a message of at most `length` bytes.
template <typename Action>
int caught(char *message, std::size_t length, Action action) noexcept {
    try {
        action();
        return 0;
    } catch (const std::exception &error) {
        std::snprintf(message, length, "%s", error.what());
    } catch (...) {
        std::snprintf(message, length, "unknown C++ exception");
    }
    return 1;
}
