#include "streams.h"

#include "capture.h"
#include "collectives.h"
#include "counters.h"
#include "memory.h"

#include <c10/util/Exception.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace stand_in {
namespace {

using c10::Stream;

// The time that a copy takes at least.
constexpr std::chrono::milliseconds DELAY{2};
// libtorch's pool has 32 streams; a few serve.
constexpr c10::StreamId POOL = 4;

// A stream with a thread of its own.
class Queue {
public:
    void put(std::function<void()> work) {
        std::lock_guard<std::mutex> guard(lock_);
        if (!thread_) thread_ = std::make_unique<std::thread>([this] { run(); });
        waiting_.push_back(std::move(work));
        given_ += 1;
        changed_.notify_all();
    }
    std::int64_t given() {
        std::lock_guard<std::mutex> guard(lock_);
        return given_;
    }
    bool has_done(std::int64_t number) {
        std::lock_guard<std::mutex> guard(lock_);
        return done_ >= number;
    }
    void wait_for(std::int64_t number) {
        std::unique_lock<std::mutex> guard(lock_);
        changed_.wait(guard, [&] { return done_ >= number; });
    }

private:
    [[noreturn]] void run() {
        std::unique_lock<std::mutex> guard(lock_);
        while (true) {
            changed_.wait(guard, [&] { return !waiting_.empty(); });
            auto work = std::move(waiting_.front());
            waiting_.pop_front();
            guard.unlock();
            std::this_thread::sleep_for(DELAY);
            work();
            // What the work holds is freed before it counts as done.
            work = nullptr;
            guard.lock();
            done_ += 1;
            changed_.notify_all();
        }
    }

    std::mutex lock_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> waiting_;
    std::int64_t given_ = 0, done_ = 0;
    std::unique_ptr<std::thread> thread_;
};

// Never destroyed: their threads run until the process ends.
Queue &queue(c10::StreamId id) {
    static auto *all = new std::array<Queue, POOL>;
    return (*all).at(static_cast<std::size_t>(id - 1));
}

Stream stream(c10::StreamId id) { return Stream(Stream::UNSAFE, gpu(), id); }

thread_local c10::StreamId current = 0;

struct Mark {
    c10::StreamId stream;
    std::int64_t number;
};

Mark &mark(void *event) { return *static_cast<Mark *>(event); }

}  // namespace

Stream current_stream() { return stream(current); }

Stream exchange_stream(Stream next) {
    const Stream before = stream(current);
    current = next.id();
    return before;
}

Stream stream_of_pool() {
    static std::mutex lock;
    static c10::StreamId last = 0;
    std::lock_guard<std::mutex> guard(lock);
    last = last % POOL + 1;
    return stream(last);
}

void put_into(Stream to, std::function<void()> work) {
    if (to.id() == 0) work();
    else queue(to.id()).put(std::move(work));
}

void drain(Stream of) {
    if (of.id() != 0) queue(of.id()).wait_for(queue(of.id()).given());
}

void record_event(void **event, Stream of) {
    destroy_event(*event);
    *event = new Mark{of.id(), of.id() == 0 ? 0 : queue(of.id()).given()};
}

void destroy_event(void *event) { delete static_cast<Mark *>(event); }

bool is_past(void *event) {
    return !event || mark(event).stream == 0 || queue(mark(event).stream).has_done(mark(event).number);
}

void block_on_event(void *event, Stream later) {
    if (is_past(event)) return;
    if (later.id() == 0) wait_for_event(event);
    else queue(later.id()).put([before = mark(event)] { queue(before.stream).wait_for(before.number); });
}

void wait_for_event(void *event) {
    if (event && mark(event).stream != 0) queue(mark(event).stream).wait_for(mark(event).number);
}

}  // namespace stand_in

// A kernel of the program's own comes after collectives and after the earlier work of its own stream, and is done at once, or
// recorded for a graph.
extern "C" void cuda_stand_in_launch(const char *name, void (*run)(const void *), void (*free)(void *), void *work) {
    const std::shared_ptr<void> launched(work, free);
    const auto kernel = std::string("kernel ") + name;
    if (stand_in::is_capturing()) {
        stand_in::record(kernel, [run, launched] { run(launched.get()); });
        return;
    }
    stand_in::catch_up_with_stream();
    stand_in::drain(stand_in::current_stream());
    stand_in::count_operation(kernel);
    run(launched.get());
}
