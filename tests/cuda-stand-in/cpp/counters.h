// What the program did with the device: operations, copies, and the times that the host waited for it.
#pragma once
#include <cstdint>
#include <string>

namespace stand_in {

// An operation that a GPU would run as one or more kernels.
void count_operation(const std::string &name);
// The host waits until the device is done, for this reason.
void count_wait(const std::string &reason);
// Bytes copied, for example from "host" to "device".
void count_copy(const char *from, const char *to, std::int64_t bytes);
// An operation that was recorded for a graph, and neither done nor counted above.
void count_captured();
// A graph that was captured, or replayed with so many operations.
void count_graph(std::int64_t replayed);
// The memory in use and the memory held, in bytes.
void count_memory(std::int64_t allocated, std::int64_t reserved);

}  // namespace stand_in
