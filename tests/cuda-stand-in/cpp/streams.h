// Streams beside the default one, and events between streams.
#pragma once
#include <c10/core/Stream.h>

#include <functional>

namespace stand_in {

// The current stream of this thread, and the next stream of the pool.
c10::Stream current_stream();
c10::Stream exchange_stream(c10::Stream stream);
c10::Stream stream_of_pool();

// Puts work into a stream. The default stream does it before this returns; another one later, on a thread of its own, with a
// delay, so that a program that does not wait for it reads memory that is not yet written.
void put_into(c10::Stream stream, std::function<void()> work);
// The host waits for all work of a stream.
void drain(c10::Stream stream);

// An event marks the work that a stream has at the moment.
void record_event(void **event, c10::Stream stream);
void destroy_event(void *event);
bool is_past(void *event);
// Later work of the stream starts after the event. The default stream does its work at once, so here the host waits; a GPU
// waits without the host, so this is no wait of the program and is not counted.
void block_on_event(void *event, c10::Stream stream);
void wait_for_event(void *event);

}  // namespace stand_in
