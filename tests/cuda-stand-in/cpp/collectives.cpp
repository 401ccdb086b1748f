#include "collectives.h"

#include <cstdlib>
#include <dlfcn.h>

namespace stand_in {
namespace {

using Synchronize = int (*)(void *);

// The function of the library that the program uses as its CUDA runtime, once it has opened it.
Synchronize find() {
    const char *runtime = std::getenv("NCCL_RS_CUDART");
    void *library = runtime ? dlopen(runtime, RTLD_NOW | RTLD_NOLOAD) : nullptr;
    if (!library || !dlsym(library, "nccl_stand_in")) return nullptr;
    return reinterpret_cast<Synchronize>(dlsym(library, "cudaStreamSynchronize"));
}

}  // namespace

void catch_up_with_stream() {
    static Synchronize synchronize = nullptr;
    if (!synchronize && std::getenv("NCCL_RS_CUDART")) synchronize = find();
    if (synchronize) synchronize(nullptr);
}

}  // namespace stand_in
