// Pinned memory of the host.
#pragma once
#include <c10/core/Allocator.h>

namespace stand_in {

c10::Allocator &pinned_memory();
bool is_pinned(const void *address);

}  // namespace stand_in
