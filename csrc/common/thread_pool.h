// A small pool for data-parallel loops in which the caller works too.
#pragma once

#include <cstddef>
#include <functional>

namespace xfast {

// Calls body(i) for every i in [0, count), on the calling thread and up to threads - 1 helpers. Returns when all calls
// have returned; a helper that never gets a processor delays nothing, because the caller takes every task that is left.
// The first exception of a body is rethrown here. Usable after fork() and from several threads at once.
void parallel_for(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& body);

}  // namespace xfast
