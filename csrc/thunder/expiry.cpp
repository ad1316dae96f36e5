// What leaves the store: expiry, clearing, and the reuse of memory once no reader can be there any more.
#include "thunder/store.h"

namespace xfast::thunder {

// -- expiry

std::size_t PostStore::trim(std::uint32_t now) {
  const std::lock_guard lock(writer_);
  const std::size_t removed = config_.reference ? trim_reference(now) : trim_fixed(now);
  reclaim();
  shrink();
  finish_write();
  return removed;
}

std::vector<std::uint32_t> PostStore::all_authors() const {
  std::vector<std::uint32_t> all;
  all.reserve(author_index_.size());
  author_index_.for_each([&](std::uint32_t dense) { all.push_back(dense); });
  return all;
}

std::size_t PostStore::trim_reference(std::uint32_t now) {
  const std::uint32_t reserved = author_index_.find(config_.tombstone_key, author_key());
  const std::vector<std::uint32_t> everyone = all_authors();
  std::size_t removed = 0;
  for (const std::size_t kind : {kOriginal, kSecondary, kVideo})
    for (const std::uint32_t dense : everyone) {
      while (author(dense).head[kind].load(std::memory_order_relaxed) != 0) {
        const std::uint64_t entry = oldest(dense, kind);
        // Unsigned on purpose: a stamp in the future is a huge age.
        if (std::uint64_t{now} - high(entry) <= config_.retention) break;
        const std::uint32_t slot = current(low(entry));
        if ((state(slot) & kAlive) != 0) kill(slot);
        pop_oldest(dense, kind);
        if (kind == kOriginal && dense == reserved && (state(slot) & kDeleted) != 0) lift_tombstone(slot);
        drop(low(entry));
        if (kind != kVideo) ++removed;
      }
    }
  return removed;
}

std::size_t PostStore::trim_fixed(std::uint32_t now) {
  const std::uint32_t cutoff = now > config_.retention ? now - config_.retention : 0;
  std::size_t removed = 0;
  std::vector<std::uint32_t> videos, others;
  list_wheel_.take_due(cutoff, [&](std::uint32_t bucket, std::uint32_t note) {
    const std::uint32_t dense = note >> 2, kind = note & 3;
    // The list, or the author, may be gone, or its oldest entry noted elsewhere by now.
    if (authors_.present(dense) && author(dense).head[kind].load(std::memory_order_relaxed) != 0 &&
        author(dense).wheel[kind] == static_cast<std::uint16_t>(bucket))
      (kind == kVideo ? videos : others).push_back(note);
  });
  // Videos first: an entry whose post is gone was then counted as dead, and not just removed by its other timeline.
  for (const auto* notes : {&videos, &others})
    for (const std::uint32_t note : *notes) {
      const std::uint32_t dense = note >> 2, kind = note & 3;
      hold_author(dense);
      while (author(dense).head[kind].load(std::memory_order_relaxed) != 0) {
        const std::uint64_t entry = oldest(dense, kind);
        if (high(entry) >= cutoff) {
          watch_expiry(dense, kind);
          // What is left may be entries of posts that were gone before.
          if (author(dense).dead[kind] == author(dense).length[kind].load(std::memory_order_relaxed))
            compact(dense, kind);
          break;
        }
        const std::uint32_t slot = low(entry);
        pop_oldest(dense, kind);
        if ((state(slot) & kAlive) == 0) {
          --author(dense).dead[kind];
          dead_[kind].fetch_sub(1, std::memory_order_relaxed);
        } else if (kind != kVideo) {
          kill(slot);
          ++removed;
        }
        drop(slot);
      }
      drop_author(dense);
    }
  std::vector<Tombstone> kept;
  tombstone_wheel_.take_due(cutoff, [&](std::uint32_t, const Tombstone& tombstone) {
    if (tombstone.deleted_at >= cutoff) {
      kept.push_back(tombstone);
    } else {
      lift_tombstone(tombstone.slot);
      ++removed;
    }
  });
  for (const Tombstone& tombstone : kept) tombstone_wheel_.add(tombstone.deleted_at, tombstone);
  return removed;
}

std::size_t PostStore::finalize(std::uint32_t now) {
  const std::lock_guard lock(writer_);
  if (config_.reference)
    for (const std::uint32_t dense : all_authors())
      for (std::size_t kind = 0; kind < kKinds; ++kind)
        if (author(dense).head[kind].load(std::memory_order_relaxed) != 0) sort_by_time(dense, kind);
  const std::size_t removed = config_.reference ? trim_reference(now) : trim_fixed(now);
  // No record carries a tombstone (deleting removes it, creating refuses it), so there is nothing left to drop here.
  reclaim();
  shrink();
  finish_write();
  return removed;
}

void PostStore::clear() {
  const std::lock_guard lock(writer_);
  std::vector<std::uint64_t> words;
  for (const std::uint32_t dense : all_authors()) {
    hold_author(dense);
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
      words.clear();
      collect(dense, kind, words);
      dead_[kind].fetch_sub(author(dense).dead[kind], std::memory_order_relaxed);
      author(dense).dead[kind] = 0;
      rebuild(dense, kind, {});
      for (std::size_t i = 0; i < words.size(); i += words_of(kind)) {
        const std::uint32_t slot = current(low(words[i]));
        if ((state(slot) & kAlive) != 0) kill(slot);
        drop(low(words[i]));
      }
    }
    drop_author(dense);
  }
  list_wheel_.clear();
  if (!config_.reference) {
    tombstone_wheel_.for_each([&](const Tombstone& tombstone) { lift_tombstone(tombstone.slot); });
    tombstone_wheel_.clear();
  }
  reclaim();
  shrink();
  finish_write();
}

// -- reclaiming

void PostStore::retire(FlatIndex::Table* table) {
  if (table != nullptr) retire(Garbage::index_table, reinterpret_cast<std::uint64_t>(table));
}

void PostStore::retire(Forwarding::Table* table) {
  if (table != nullptr) retire(Garbage::forwarding_table, reinterpret_cast<std::uint64_t>(table));
}

// Reuse what no reader can reach any more; never waits for one.
void PostStore::reclaim() {
  for (;;) {
    if (closed_garbage_.empty()) {
      if (open_garbage_.empty()) return;
      std::swap(open_garbage_, closed_garbage_);
      epoch_.begin();
    }
    if (!epoch_.elapsed()) return;
    // Discarding may retire more: that waits for a grace period of its own.
    const std::vector<std::uint64_t> items = std::exchange(closed_garbage_, {});
    for (const std::uint64_t item : items) discard(item);
  }
}

void PostStore::discard(std::uint64_t item) {
  const std::uint64_t what = item & ((std::uint64_t{1} << 56) - 1);
  const auto number = static_cast<std::uint32_t>(what);
  switch (static_cast<Garbage>(item >> 56)) {
    case Garbage::record:
      release_record(number);
      break;
    case Garbage::slot:
      slots_.release(number);
      break;
    case Garbage::author:
      authors_.release(number);
      break;
    case Garbage::chunk:
      chunks_.release(number);
      break;
    case Garbage::index_table:
      delete reinterpret_cast<FlatIndex::Table*>(what);
      break;
    case Garbage::forwarding_table:
      delete reinterpret_cast<Forwarding::Table*>(what);
      break;
  }
}

void PostStore::shrink() {
  retire(post_index_.shrink(post_key()));
  retire(author_index_.shrink(author_key()));
  retire(forwarding_.shrink());
  slots_.shrink();
  authors_.shrink();
  chunks_.shrink();
  references_.shrink();
  rows_buffer_ = std::vector<std::uint32_t>();
}

void PostStore::finish_write() {
  reclaim();
  expiry_bytes_.store(list_wheel_.bytes() + tombstone_wheel_.bytes(), std::memory_order_relaxed);
  book_bytes_.store(slots_.book_bytes() + authors_.book_bytes() + rows_buffer_.capacity() * sizeof(rows_buffer_[0]),
                    std::memory_order_relaxed);
  garbage_bytes_.store((open_garbage_.capacity() + closed_garbage_.capacity()) * sizeof(std::uint64_t),
                       std::memory_order_relaxed);
  forwarding_bytes_.store(forwarding_.bytes(), std::memory_order_relaxed);
}

}  // namespace xfast::thunder
