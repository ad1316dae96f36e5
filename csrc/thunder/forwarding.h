// Where the post of a "moved" slot lives now. Empty unless ids are replaced or re-created, so it costs nothing else.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "common/flat_index.h"
#include "thunder/layout.h"

namespace xfast::thunder {

class Forwarding {
 public:
  // Cells hold old << 32 | current, in one word, so a reader never sees half a change.
  struct Table {
    explicit Table(std::size_t cells) : capacity(cells), cell(new std::atomic<std::uint64_t>[cells]) {
      for (std::size_t i = 0; i < cells; ++i) cell[i].store(kEmpty, std::memory_order_relaxed);
    }
    std::size_t capacity;  // a power of two
    std::unique_ptr<std::atomic<std::uint64_t>[]> cell;
  };

  Forwarding() : table_(new Table(kSmallest)) {}
  ~Forwarding() { delete table_.load(std::memory_order_relaxed); }
  Forwarding(const Forwarding&) = delete;
  Forwarding& operator=(const Forwarding&) = delete;

  // The current slot, or kNone if there is none.
  [[nodiscard]] std::uint32_t find(std::uint32_t old) const {
    const Table& table = *table_.load(std::memory_order_acquire);
    for (std::size_t at = mix64(old) & (table.capacity - 1);; at = (at + 1) & (table.capacity - 1)) {
      const std::uint64_t word = table.cell[at].load(std::memory_order_acquire);
      if (word == kEmpty) return kNone;
      if (word != kErased && high(word) == old) return low(word);
    }
  }

  // Writer: `old`, and all that led to it, now lead to `current`; the caller holds `current` once for each of them.
  // Calls `moved(slot)` for every slot that changed its target. Returns the table to retire, or null.
  template <class Moved>
  [[nodiscard]] Table* add(std::uint32_t old, std::uint32_t current, Moved&& moved) {
    Table* retired = nullptr;
    if ((used_ + 1) * 2 > table_.load(std::memory_order_relaxed)->capacity) retired = resize();
    std::vector<std::uint32_t> group;
    if (auto node = sources_.extract(old)) group = std::move(node.mapped());
    for (const std::uint32_t slot : group) {
      cell(slot).store(pack(slot, current), std::memory_order_release);
      moved(slot);
    }
    cell(old).store(pack(old, current), std::memory_order_release);
    ++live_;
    group.push_back(old);
    auto& all = sources_[current];
    all.insert(all.end(), group.begin(), group.end());
    return retired;
  }

  // Writer: nobody can ask for `old` any more. Returns the slot it led to.
  std::uint32_t remove(std::uint32_t old) {
    auto& word = cell(old);
    const std::uint32_t current = low(word.load(std::memory_order_relaxed));
    word.store(kErased, std::memory_order_release);
    --live_;
    auto found = sources_.find(current);
    std::erase(found->second, old);
    if (found->second.empty()) sources_.erase(found);
    return current;
  }

  // Writer: a smaller table if an eighth or less is used. Returns the table to retire, or null.
  [[nodiscard]] Table* shrink() {
    const std::size_t capacity = table_.load(std::memory_order_relaxed)->capacity;
    return capacity > kSmallest && live_ * 8 <= capacity ? resize() : nullptr;
  }

  [[nodiscard]] std::size_t size() const { return live_; }
  [[nodiscard]] std::size_t bytes() const {
    return table_.load(std::memory_order_relaxed)->capacity * sizeof(std::uint64_t) + live_ * kSourceBytes;
  }
  // Writer: every (old, current).
  template <class Visit>
  void for_each(Visit&& visit) const {
    const Table& table = *table_.load(std::memory_order_relaxed);
    for (std::size_t at = 0; at < table.capacity; ++at) {
      const std::uint64_t word = table.cell[at].load(std::memory_order_relaxed);
      if (word != kEmpty && word != kErased) visit(high(word), low(word));
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~0ull, kErased = ~0ull - 1;
  static constexpr std::size_t kSmallest = 16;
  static constexpr std::size_t kSourceBytes = 64;  // a node of the reverse map with a vector of one

  // The cell of `old`, or the empty one that it will take.
  std::atomic<std::uint64_t>& cell(std::uint32_t old) {
    Table& table = *table_.load(std::memory_order_relaxed);
    std::size_t at = mix64(old) & (table.capacity - 1);
    for (;; at = (at + 1) & (table.capacity - 1)) {
      const std::uint64_t word = table.cell[at].load(std::memory_order_relaxed);
      if (word == kEmpty) ++used_;
      if (word == kEmpty || (word != kErased && high(word) == old)) return table.cell[at];
    }
  }

  // A table of the right size for what is there and one more.
  Table* resize() {
    std::size_t capacity = kSmallest;
    while (capacity < (live_ + 1) * 4) capacity *= 2;
    auto next = std::make_unique<Table>(capacity);
    Table* old = table_.load(std::memory_order_relaxed);
    for_each([&](std::uint32_t from, std::uint32_t to) {
      std::size_t at = mix64(from) & (capacity - 1);
      while (next->cell[at].load(std::memory_order_relaxed) != kEmpty) at = (at + 1) & (capacity - 1);
      next->cell[at].store(pack(from, to), std::memory_order_relaxed);
    });
    used_ = live_;
    table_.store(next.release(), std::memory_order_release);
    return old;
  }

  std::atomic<Table*> table_;
  std::size_t live_ = 0, used_ = 0;
  std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> sources_;
};

}  // namespace xfast::thunder
