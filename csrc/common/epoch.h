// Grace periods for one writer and any number of readers.
//
// A reader announces itself with one atomic increment and leaves with one decrement: it never loops, locks or waits.
// The writer unlinks an object, and may reuse its memory once it has seen every counter at zero at some moment after
// that.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace xfast {

class EpochDomain {
 public:
  class Guard {
   public:
    explicit Guard(std::atomic<std::uint32_t>& counter) : counter_(&counter) {
      // acq_rel on both sides orders the reader with the writer's probe of the same counter: either the probe sees the
      // reader, or the reader sees everything that the writer did before the probe.
      counter_->fetch_add(1, std::memory_order_acq_rel);
    }
    ~Guard() { counter_->fetch_sub(1, std::memory_order_acq_rel); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    std::atomic<std::uint32_t>* counter_;
  };

  // Everything that the reader can reach stays valid while the guard lives.
  [[nodiscard]] Guard enter() const noexcept {
    return Guard(stripes_[stripe()].active[phase_.load(std::memory_order_acquire) & 1]);
  }

  // Writer: start a grace period for all that was unlinked so far.
  void begin() noexcept { step_ = 0; }

  // Writer: true once the grace period is over; never waits. Two phases exist for progress only: new readers enter the
  // other phase, so a steady stream of them cannot hold a counter above zero forever.
  [[nodiscard]] bool elapsed() noexcept {
    const std::uint32_t current = phase_.load(std::memory_order_relaxed) & 1;
    if (step_ == 0) {
      if (!drained(current ^ 1)) return false;
      phase_.store(current ^ 1, std::memory_order_release);
      step_ = 1;
      return drained(current);
    }
    return drained(current ^ 1);
  }

 private:
  static constexpr std::size_t kStripes = 16;

  struct alignas(64) Stripe {
    // The counters change under const: entering is what a read-only caller does.
    mutable std::array<std::atomic<std::uint32_t>, 2> active{};
  };

  static std::size_t stripe() noexcept {
    static std::atomic<std::size_t> next{0};
    thread_local const std::size_t mine = next.fetch_add(1, std::memory_order_relaxed) % kStripes;
    return mine;
  }

  [[nodiscard]] bool drained(std::uint32_t phase) const noexcept {
    // A read-modify-write, not a load: it takes its place in the counter's order of changes (see Guard).
    for (const Stripe& stripe : stripes_)
      if (stripe.active[phase].fetch_add(0, std::memory_order_acq_rel) != 0) return false;
    return true;
  }

  std::array<Stripe, kStripes> stripes_{};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
  int step_ = 0;
};

}  // namespace xfast
