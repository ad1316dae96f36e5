// Conditions on rows, asked for the few rows that pass the threshold of a scan.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "retrieval/index.h"

namespace xfast::retrieval {

// A set of ids. A bit per hash value answers most questions about ids that are not in it with one load.
class IdSet {
 public:
  explicit IdSet(std::vector<std::uint64_t> ids) : ids_(std::move(ids)) {
    std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
    const std::size_t words = std::bit_ceil(ids_.size() / 4 + 1);  // at least 16 bits per id
    shift_ = 64 - (std::bit_width(words) - 1) - 6;
    bits_.assign(words, 0);
    for (const std::uint64_t id : ids_) bits_[hash(id) / 64] |= std::uint64_t{1} << hash(id) % 64;
  }

  bool empty() const { return ids_.empty(); }
  bool contains(std::uint64_t id) const {
    const std::size_t at = hash(id);
    return (bits_[at / 64] >> at % 64 & 1) != 0 && std::binary_search(ids_.begin(), ids_.end(), id);
  }

 private:
  std::size_t hash(std::uint64_t id) const {
    id ^= id >> 32;  // sequential ids and ids that share their low bits
    return static_cast<std::size_t>(id * 0x9E3779B97F4A7C15ull >> shift_);
  }

  std::vector<std::uint64_t> ids_;
  std::vector<std::uint64_t> bits_;
  int shift_;
};

// A Filter made ready.
class Condition {
 public:
  explicit Condition(const Filter& filter) : excluded_(filter.excluded), by_topic_(filter.by_topic) {
    for (const std::int64_t topic : filter.topics)
      if (topic != 0) topics_.push_back(topic);
    std::sort(topics_.begin(), topics_.end());
  }

  bool any() const { return by_topic_ || !excluded_.empty(); }

  bool allows(const Posts& posts, std::size_t row) const {
    if (!excluded_.empty() && excluded_.contains(posts.post_ids[row])) return false;
    if (!by_topic_) return true;
    const std::int64_t* own = posts.topics.data() + row * posts.topics_per_row;
    return std::any_of(own, own + posts.topics_per_row, [this](std::int64_t topic) {
      return std::binary_search(topics_.begin(), topics_.end(), topic);
    });
  }

 private:
  IdSet excluded_;
  bool by_topic_;
  std::vector<std::int64_t> topics_;
};

}  // namespace xfast::retrieval
