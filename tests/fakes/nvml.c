// NVIDIA's management library as `lift doctor` uses it: two GPUs, of which the second is divided into two slices and in
// use. It is compiled by the test that needs it.
#include <stdio.h>
#include <string.h>

typedef struct device { unsigned index, slice; } device;
static device gpus[2] = {{0, 0}, {1, 0}}, slices[2] = {{1, 1}, {1, 2}};

struct memory { unsigned version; unsigned long long total, reserved, free, used; };

static int text(char *to, unsigned length, const char *from) { return snprintf(to, length, "%s", from) < 0; }

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *to, unsigned length) { return text(to, length, "550.54.15"); }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12040; return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **found) { *found = &gpus[index]; return 0; }
int nvmlDeviceGetName(device *one, char *to, unsigned length) {
    return text(to, length, one->slice ? "Example GPU MIG 1g.10gb" : "Example GPU");
}
int nvmlDeviceGetUUID(device *one, char *to, unsigned length) {
    return snprintf(to, length, "%s-%u-%u", one->slice ? "MIG" : "GPU", one->index, one->slice) < 0;
}
int nvmlDeviceGetMemoryInfo_v2(device *one, struct memory *memory) {
    memory->total = (one->slice ? 10ull : 80ull) << 30;
    memory->used = (one->index ? 30ull : 0ull) << 30;
    return 0;
}
// 7: there is more than the caller has room for.
int nvmlDeviceGetComputeRunningProcesses_v3(device *one, unsigned *count, void *processes) {
    (void)processes;
    *count = one->index ? 3 : 0;
    return one->index ? 7 : 0;
}
int nvmlDeviceGetMaxMigDeviceCount(device *one, unsigned *count) { *count = one->index ? 7 : 0; return 0; }
// 6: there is none.
int nvmlDeviceGetMigDeviceHandleByIndex(device *one, unsigned index, device **found) {
    (void)one;
    if (index > 1) return 6;
    *found = &slices[index];
    return 0;
}
