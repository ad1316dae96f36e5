// Open-addressing index from 64-bit keys to dense 32-bit positions, for one writer and many readers.
//
// A cell is the position alone (4 bytes); the key is read back from the column that owns it. Cells change in place by
// one atomic store; growing builds a new table and publishes it, and the old one is handed to the caller to retire.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace xfast {

// Mixes all 64 bits; ids are often sequential or share their low bits.
inline std::uint64_t mix64(std::uint64_t key) {
  key ^= key >> 32;
  const auto product = static_cast<unsigned __int128>(key + 0x9E3779B97F4A7C15ull) * 0xD6E8FEB86659FD93ull;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

class FlatIndex {
 public:
  static constexpr std::uint32_t kMissing = ~0u, kErased = ~0u - 1;

  struct Table {
    explicit Table(std::size_t cells) : capacity(cells), cell(new std::atomic<std::uint32_t>[cells]) {
      for (std::size_t i = 0; i < cells; ++i) cell[i].store(kMissing, std::memory_order_relaxed);
    }
    [[nodiscard]] std::size_t home(std::int64_t key) const {
      return static_cast<std::size_t>(
          (static_cast<unsigned __int128>(mix64(static_cast<std::uint64_t>(key))) * capacity) >> 64);
    }
    [[nodiscard]] std::size_t next(std::size_t at) const { return at + 1 == capacity ? 0 : at + 1; }
    [[nodiscard]] std::size_t bytes() const { return capacity * sizeof(cell[0]); }

    std::size_t capacity;
    std::unique_ptr<std::atomic<std::uint32_t>[]> cell;
  };

  FlatIndex() : table_(new Table(kSmallest)) {}
  ~FlatIndex() { delete table_.load(std::memory_order_relaxed); }
  FlatIndex(const FlatIndex&) = delete;
  FlatIndex& operator=(const FlatIndex&) = delete;

  // Readers take the table once per query, inside their epoch guard.
  [[nodiscard]] const Table& table() const { return *table_.load(std::memory_order_acquire); }

  static void prefetch(const Table& table, std::int64_t key) { __builtin_prefetch(&table.cell[table.home(key)]); }

  template <class KeyOf>
  [[nodiscard]] static std::uint32_t find(const Table& table, std::int64_t key, KeyOf&& key_of) {
    for (std::size_t at = table.home(key);; at = table.next(at)) {
      const std::uint32_t value = table.cell[at].load(std::memory_order_acquire);
      if (value == kMissing) return kMissing;
      if (value != kErased && key_of(value) == key) return value;
    }
  }

  template <class KeyOf>
  [[nodiscard]] std::uint32_t find(std::int64_t key, KeyOf&& key_of) const {
    return find(table(), key, key_of);
  }

  // Writer: add a key that is not there. Returns the table to retire, or null.
  template <class KeyOf>
  [[nodiscard]] Table* insert(std::int64_t key, std::uint32_t value, KeyOf&& key_of) {
    Table* old = nullptr;
    if ((live_ + erased_ + 1) * 4 > table().capacity * 3) old = rebuild(live_ + 1, key_of);
    place(*table_.load(std::memory_order_relaxed), key, value);
    ++live_;
    return old;
  }

  // Writer: let the key of `from` lead to `to`.
  void replace(std::int64_t key, std::uint32_t from, std::uint32_t to) {
    cell_of(key, from).store(to, std::memory_order_release);
  }

  void erase(std::int64_t key, std::uint32_t value) {
    cell_of(key, value).store(kErased, std::memory_order_release);
    --live_;
    ++erased_;
  }

  // Writer: a smaller table if less than a quarter is used. Returns the table to retire, or null.
  template <class KeyOf>
  [[nodiscard]] Table* shrink(KeyOf&& key_of) {
    const std::size_t capacity = table().capacity;
    if (capacity <= kSmallest || live_ * 4 > capacity) return nullptr;
    return rebuild(live_, key_of);
  }

  // Writer: room for `count` keys at once (loading a snapshot). Returns the table to retire, or null.
  template <class KeyOf>
  [[nodiscard]] Table* reserve(std::size_t count, KeyOf&& key_of) {
    return count * 4 > table().capacity * 3 ? rebuild(count, key_of) : nullptr;
  }

  // Writer: every value, in table order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    const Table& current = table();
    for (std::size_t at = 0; at < current.capacity; ++at) {
      const std::uint32_t value = current.cell[at].load(std::memory_order_relaxed);
      if (value != kMissing && value != kErased) visit(value);
    }
  }

  [[nodiscard]] std::size_t size() const { return live_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kSmallest = 16;

  static void place(Table& table, std::int64_t key, std::uint32_t value) {
    std::size_t at = table.home(key);
    while (table.cell[at].load(std::memory_order_relaxed) != kMissing) at = table.next(at);
    table.cell[at].store(value, std::memory_order_release);
  }

  [[nodiscard]] std::atomic<std::uint32_t>& cell_of(std::int64_t key, std::uint32_t value) const {
    Table& table = *table_.load(std::memory_order_relaxed);
    std::size_t at = table.home(key);
    while (table.cell[at].load(std::memory_order_relaxed) != value) at = table.next(at);
    return table.cell[at];
  }

  template <class KeyOf>
  Table* rebuild(std::size_t count, KeyOf&& key_of) {
    // 56 % full after, 75 % before: 5.3 to 7.1 bytes per key, where doubling would swing between 5.3 and 10.7.
    const std::size_t capacity = count * 16 / 9 < kSmallest ? kSmallest : count * 16 / 9;
    auto next = std::make_unique<Table>(capacity);
    // Keys lie anywhere: a block of them is read at once, so that the cache misses overlap.
    std::array<std::uint32_t, 64> values;
    std::array<std::int64_t, 64> keys;
    std::size_t held = 0;
    const auto flush = [&] {
      for (std::size_t i = 0; i < held; ++i) keys[i] = key_of(values[i]);
      for (std::size_t i = 0; i < held; ++i) place(*next, keys[i], values[i]);
      held = 0;
    };
    for_each([&](std::uint32_t value) {
      values[held++] = value;
      if (held == values.size()) flush();
    });
    flush();
    bytes_.store(next->bytes(), std::memory_order_relaxed);
    Table* old = table_.load(std::memory_order_relaxed);
    table_.store(next.release(), std::memory_order_release);
    erased_ = 0;
    return old;
  }

  std::atomic<Table*> table_;
  std::size_t live_ = 0, erased_ = 0;
  std::atomic<std::size_t> bytes_{kSmallest * sizeof(std::uint32_t)};
};

}  // namespace xfast
