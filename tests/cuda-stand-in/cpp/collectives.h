// The order between this device and collectives of the stand-in for NCCL.
#pragma once

namespace stand_in {

// Returns when what was put into the default stream is done. A GPU runs its work behind that without the host; here the
// work is done at once, so the host has to wait. It is no wait of the program and is not counted.
void catch_up_with_stream();

}  // namespace stand_in
