#include "common/thread_pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace xfast {
namespace {

// One loop. Helpers hold it by shared pointer, so one that wakes late finds no task left and touches nothing else.
struct Loop {
  std::size_t count;
  const std::function<void(std::size_t)>* body;
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> finished{0};
  std::mutex mutex;
  std::condition_variable all_finished;
  std::exception_ptr error;

  void work() {
    for (;;) {
      const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= count) return;
      try {
        (*body)(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (error == nullptr) error = std::current_exception();
      }
      if (finished.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
        const std::lock_guard lock(mutex);
        all_finished.notify_all();
      }
    }
  }
};

class Pool {
 public:
  void post(const std::shared_ptr<Loop>& loop, std::size_t helpers) {
    const std::lock_guard lock(mutex_);
    while (threads_ < helpers) {
      // Detached: the pool is never destroyed, and the process may exit while helpers sleep.
      std::thread([this] { help(); }).detach();
      ++threads_;
    }
    for (std::size_t i = 0; i < helpers; ++i) loops_.push_back(loop);
    for (std::size_t i = 0; i < helpers; ++i) wake_.notify_one();
  }

 private:
  void help() {
    for (;;) {
      std::shared_ptr<Loop> loop;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return !loops_.empty(); });
        loop = std::move(loops_.front());
        loops_.pop_front();
      }
      loop->work();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Loop>> loops_;
  std::size_t threads_ = 0;
};

// A child of fork() has none of the parent's helpers and perhaps a locked mutex: it gets a pool of its own.
Pool& pool() {
  static std::atomic<Pool*> current{nullptr};
  static std::atomic<pid_t> owner{0};
  const pid_t process = getpid();
  if (owner.load(std::memory_order_acquire) != process) {
    Pool* fresh = new Pool;
    Pool* seen = current.load();
    if (owner.load(std::memory_order_acquire) != process && current.compare_exchange_strong(seen, fresh))
      owner.store(process, std::memory_order_release);
    else
      delete fresh;
  }
  return *current.load(std::memory_order_acquire);
}

}  // namespace

void Workers::loop(std::size_t count, const std::function<void(std::size_t)>& body) const {
  if (count == 0) return;
  const std::size_t cores = std::max(1u, std::thread::hardware_concurrency());
  const std::size_t helpers = std::min({threads, count, cores}) - std::min<std::size_t>(threads, 1);
  if (helpers == 0) {
    for (std::size_t i = 0; i < count; ++i) body(i);
    return;
  }
  const auto shared = std::make_shared<Loop>();
  shared->count = count;
  shared->body = &body;
  if (post)
    for (std::size_t i = 0; i < helpers; ++i) post([shared] { shared->work(); });
  else
    pool().post(shared, helpers);
  shared->work();
  std::unique_lock lock(shared->mutex);
  shared->all_finished.wait(lock, [&] { return shared->finished.load(std::memory_order_acquire) == count; });
  if (shared->error != nullptr) std::rethrow_exception(shared->error);
}

}  // namespace xfast
