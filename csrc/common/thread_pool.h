// Data-parallel loops in which the caller works too.
#pragma once

#include <cstddef>
#include <functional>

namespace xfast {

// Who may help with a loop: up to threads - 1 threads of the process's own pool, or of another's pool that `post` hands
// tasks to.
struct Workers {
  std::size_t threads = 1;
  std::function<void(std::function<void()>)> post = nullptr;

  // Calls body(i) for every i in [0, count), on the calling thread and on helpers. Returns when all calls have
  // returned; a helper that never gets a processor delays nothing, because the caller takes every task that is left.
  // The first exception of a body is rethrown here. Usable after fork() and from several threads at once.
  void loop(std::size_t count, const std::function<void(std::size_t)>& body) const;
};

inline void parallel_for(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& body) {
  Workers{threads}.loop(count, body);
}

}  // namespace xfast
