// Pieces of a lookup that know nothing of the store: ages in buckets, a set of ids, posts in the order of an answer.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace xfast::thunder {

// Age in buckets that are exact below 32 s and 3 % wide above: fine enough to cut at the K-th newest, few enough to
// clear.
inline constexpr std::uint32_t kBuckets = 1024;
inline std::uint32_t age_bucket(std::uint32_t age) {
  if (age < 32) return age;
  const auto exponent = static_cast<std::uint32_t>(31 - std::countl_zero(age));
  return (exponent - 4) * 32 + ((age >> (exponent - 5)) & 31);
}
// The largest age of a bucket.
inline double oldest_age(std::uint32_t bucket) {
  if (bucket < 32) return bucket;
  return static_cast<double>((33ull + (bucket & 31)) << (bucket / 32 - 1)) - 1.0;
}

struct Candidate {
  std::uint32_t created, slot;
  std::uint32_t bucket;
  std::uint32_t dense;  // author
};

// A post of the answer.
struct Chosen {
  std::uint64_t id;
  std::uint32_t created, slot, dense;

  // Newest first; of posts of one second the larger id first.
  friend bool operator<(const Chosen& a, const Chosen& b) {
    return a.created != b.created ? a.created > b.created : a.id > b.id;
  }
};

// Buckets hold a handful of posts: std::sort's overhead is larger than the work.
inline void sort_few(Chosen* from, Chosen* to) {
  if (to - from > 32) {
    std::sort(from, to);
    return;
  }
  for (Chosen* next = from + 1; next < to; ++next) {
    const Chosen moving = *next;
    Chosen* at = next;
    for (; at > from && moving < at[-1]; --at) *at = at[-1];
    *at = moving;
  }
}

// A set of ids small enough for the first-level cache.
class IdSet {
 public:
  void assign(std::span<const std::int64_t> ids) {
    std::size_t capacity = 64;
    while (capacity < ids.size() * 4) capacity *= 2;
    cells_.assign(capacity, kFree);
    mask_ = capacity - 1;
    has_free_ = false;
    for (const std::int64_t id : ids) {
      if (id == kFree) {
        has_free_ = true;
        continue;
      }
      std::size_t at = home(id);
      while (cells_[at] != kFree && cells_[at] != id) at = (at + 1) & mask_;
      cells_[at] = id;
    }
  }
  [[nodiscard]] bool contains(std::int64_t id) const {
    if (id == kFree) return has_free_;
    for (std::size_t at = home(id); cells_[at] != kFree; at = (at + 1) & mask_)
      if (cells_[at] == id) return true;
    return false;
  }

 private:
  static constexpr std::int64_t kFree = 0x5EED0F0FF5EED0F0;  // any value: it has a flag of its own
  [[nodiscard]] std::size_t home(std::int64_t id) const {
    return (static_cast<std::uint64_t>(id) * 0x9E3779B97F4A7C15ull >> 32) & mask_;
  }
  std::vector<std::int64_t> cells_;
  std::size_t mask_ = 0;
  bool has_free_ = false;
};

}  // namespace xfast::thunder
