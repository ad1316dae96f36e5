// Things to look at again when their time has come: expiry costs what expired, not what is stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace xfast::thunder {

template <class Item>
class TimeWheel {
 public:
  static constexpr std::uint32_t bucket_of(std::uint32_t time) { return time >> kShift; }

  void add(std::uint32_t time, const Item& item) {
    auto [bucket, fresh] = buckets_.try_emplace(bucket_of(time));
    if (fresh) bytes_ += kNodeBytes;
    bytes_ -= bucket->second.capacity() * sizeof(Item);
    bucket->second.push_back(item);
    bytes_ += bucket->second.capacity() * sizeof(Item);
  }

  // Removes all that is due: whole buckets of 64 s, so the last one may hold items that are not.
  template <class Visit>
  void take_due(std::uint32_t time, Visit&& visit) {
    while (!buckets_.empty() && buckets_.begin()->first <= bucket_of(time)) {
      const auto node = buckets_.extract(buckets_.begin());
      bytes_ -= kNodeBytes + node.mapped().capacity() * sizeof(Item);
      for (const Item& item : node.mapped()) visit(node.key(), item);
    }
  }

  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [bucket, items] : buckets_)
      for (const Item& item : items) visit(item);
  }

  void clear() {
    buckets_.clear();
    bytes_ = 0;
  }

  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  static constexpr std::uint32_t kShift = 6;
  static constexpr std::size_t kNodeBytes = 80;  // a map node with its vector, as malloc rounds it

  std::map<std::uint32_t, std::vector<Item>> buckets_;
  std::size_t bytes_ = 0;
};

}  // namespace xfast::thunder
