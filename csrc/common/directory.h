// A fixed array of pointers to separately mapped groups: a group never moves, so readers follow it without a lock, and
// one that is no longer used goes back to the operating system alone.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/pages.h"

namespace xfast {

template <class Group>
class Directory {
 public:
  // Room for `limit` groups: address space, touched page by page as it fills.
  Directory(std::size_t limit, const char* what)
      : limit_(limit),
        what_(what),
        groups_(static_cast<std::atomic<Group*>*>(map_pages(limit * sizeof(std::atomic<Group*>)))) {}

  ~Directory() {
    for (std::size_t index = 0; index < used_; ++index)
      if (Group* group = groups_[index].load(std::memory_order_relaxed)) destroy(group);
    unmap_pages(groups_, limit_ * sizeof(std::atomic<Group*>));
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  [[nodiscard]] Group& operator[](std::size_t index) const { return *groups_[index].load(std::memory_order_acquire); }

  // The index of a new, zeroed group.
  std::uint32_t add() {
    std::uint32_t index = 0;
    if (free_.empty()) {
      if (used_ == limit_)
        throw std::length_error(std::string(what_) + " are full: " + std::to_string(limit_) + " groups are in use");
      index = static_cast<std::uint32_t>(used_++);
    } else {
      index = free_.back();
      free_.pop_back();
    }
    groups_[index].store(new (map_pages(sizeof(Group))) Group, std::memory_order_release);
    bytes_.fetch_add(sizeof(Group), std::memory_order_relaxed);
    return index;
  }

  // The caller knows that no reader can hold anything of this group.
  void remove(std::uint32_t index) {
    destroy(groups_[index].load(std::memory_order_relaxed));
    groups_[index].store(nullptr, std::memory_order_relaxed);
    free_.push_back(index);
    bytes_.fetch_sub(sizeof(Group), std::memory_order_relaxed);
  }

  [[nodiscard]] std::size_t used() const { return used_; }
  [[nodiscard]] bool present(std::size_t index) const {
    return groups_[index].load(std::memory_order_relaxed) != nullptr;
  }
  // Readable from any thread.
  [[nodiscard]] std::size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  static void destroy(Group* group) noexcept {
    group->~Group();
    unmap_pages(group, sizeof(Group));
  }

  std::size_t limit_;
  const char* what_;
  std::atomic<Group*>* groups_;
  std::size_t used_ = 0;
  std::vector<std::uint32_t> free_;
  std::atomic<std::size_t> bytes_{0};
};

}  // namespace xfast
