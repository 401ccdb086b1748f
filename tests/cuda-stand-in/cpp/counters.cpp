#include "counters.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unistd.h>

namespace stand_in {
namespace {

struct Copies {
    std::int64_t count = 0, bytes = 0;
};

struct Counters {
    std::mutex lock;
    std::map<std::string, std::int64_t> operations, waits;
    std::map<std::string, Copies> copies;
    std::int64_t captures = 0, captured = 0, replays = 0, replayed = 0;
    std::int64_t allocations = 0, peak_allocated = 0, peak_reserved = 0;
};

// Never destroyed: tensors are freed after static destructors have run.
Counters &counters() {
    static Counters *all = new Counters;
    return *all;
}

void write_counts(FILE *file, const std::map<std::string, std::int64_t> &counts) {
    const char *separator = "";
    for (const auto &[name, count] : counts) {
        std::fprintf(file, "%s\"%s\": %lld", separator, name.c_str(), static_cast<long long>(count));
        separator = ", ";
    }
}

// Operations that CUDA_STAND_IN_SLOW names, separated by commas.
bool is_slow(const std::string &name) {
    static const std::set<std::string> *const slow = [] {
        const char *names = std::getenv("CUDA_STAND_IN_SLOW");
        std::istringstream list(names ? names : "");
        auto *found = new std::set<std::string>;
        for (std::string one; std::getline(list, one, ',');) found->insert(one);
        return found;
    }();
    return slow->count(name) > 0;
}

// A file for each process in the folder that CUDA_STAND_IN_REPORT names.
void report() {
    const char *folder = std::getenv("CUDA_STAND_IN_REPORT");
    if (!folder) return;
    const std::string path = std::string(folder) + "/" + std::to_string(getpid()) + ".json";
    FILE *file = std::fopen(path.c_str(), "w");
    if (!file) return;
    Counters &all = counters();
    std::lock_guard<std::mutex> guard(all.lock);
    std::fprintf(file, "{\"stand_in\": true,\n\"operations\": {");
    write_counts(file, all.operations);
    std::fprintf(file, "},\n\"waits\": {");
    write_counts(file, all.waits);
    std::fprintf(file, "},\n\"copies\": {");
    const char *separator = "";
    for (const auto &[name, copies] : all.copies) {
        std::fprintf(file, "%s\"%s\": {\"count\": %lld, \"bytes\": %lld}", separator, name.c_str(),
                     static_cast<long long>(copies.count), static_cast<long long>(copies.bytes));
        separator = ", ";
    }
    std::fprintf(file,
                 "},\n\"graphs\": {\"captures\": %lld, \"captured_operations\": %lld, \"replays\": %lld, "
                 "\"replayed_operations\": %lld",
                 static_cast<long long>(all.captures), static_cast<long long>(all.captured),
                 static_cast<long long>(all.replays), static_cast<long long>(all.replayed));
    std::fprintf(file, "},\n\"memory\": {\"allocations\": %lld, \"peak_allocated\": %lld, \"peak_reserved\": %lld}}\n",
                 static_cast<long long>(all.allocations), static_cast<long long>(all.peak_allocated),
                 static_cast<long long>(all.peak_reserved));
    std::fclose(file);
}

const int at_end = std::atexit(report);

}  // namespace

void count_operation(const std::string &name) {
    if (is_slow(name)) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::lock_guard<std::mutex> guard(counters().lock);
    counters().operations[name] += 1;
}

void count_wait(const std::string &reason) {
    std::lock_guard<std::mutex> guard(counters().lock);
    counters().waits[reason] += 1;
}

void count_copy(const char *from, const char *to, std::int64_t bytes) {
    std::lock_guard<std::mutex> guard(counters().lock);
    Copies &copies = counters().copies[std::string(from) + "_to_" + to];
    copies.count += 1;
    copies.bytes += bytes;
}

void count_captured() {
    std::lock_guard<std::mutex> guard(counters().lock);
    counters().captured += 1;
}

void count_graph(std::int64_t replayed) {
    std::lock_guard<std::mutex> guard(counters().lock);
    (replayed ? counters().replays : counters().captures) += 1;
    counters().replayed += replayed;
}

void count_memory(std::int64_t allocated, std::int64_t reserved) {
    std::lock_guard<std::mutex> guard(counters().lock);
    counters().allocations += 1;
    counters().peak_allocated = std::max(counters().peak_allocated, allocated);
    counters().peak_reserved = std::max(counters().peak_reserved, reserved);
}

}  // namespace stand_in
