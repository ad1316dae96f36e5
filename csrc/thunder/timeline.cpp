// The timelines of an author: chains of chunks that readers walk from the newest back (layout.h).
#include <algorithm>
#include <bit>
#include <numeric>

#include "thunder/store.h"

namespace xfast::thunder {
namespace {

constexpr std::size_t kUnit = 16, kSmallest = 32, kLargest = 512;  // bytes of a chunk

constexpr std::size_t capacity_of(std::size_t bytes, std::size_t words) {
  return (bytes - Chunk::kHeaderBytes) / (words * sizeof(std::uint64_t));
}

}  // namespace

// Not yet reachable; room for `entries` or the most that a chunk takes.
std::uint32_t PostStore::new_chunk(std::size_t kind, std::size_t entries) {
  const std::size_t words = words_of(kind);
  // Sizes 32, 48, 64, 96, …: growing by half wastes less than doubling.
  std::size_t bytes = kSmallest;
  while (bytes < kLargest && capacity_of(bytes, words) < entries)
    bytes = std::has_single_bit(bytes) ? bytes / 2 * 3 : bytes / 3 * 4;
  const std::uint32_t handle = chunks_.allocate(static_cast<std::uint32_t>(bytes / kUnit));
  Chunk* chunk = new (chunks_.at(handle)) Chunk;
  chunk->older.store(0, std::memory_order_relaxed);
  chunk->newer = handle;
  chunk->begin.store(0, std::memory_order_relaxed);
  chunk->end.store(0, std::memory_order_relaxed);
  chunk->capacity = static_cast<std::uint16_t>(capacity_of(bytes, words));
  chunk->words = static_cast<std::uint16_t>(words);
  return handle;
}

void PostStore::count(std::uint32_t dense, std::size_t kind, std::int64_t change) {
  auto& length = author(dense).length[kind];
  length.store(static_cast<std::uint32_t>(length.load(std::memory_order_relaxed) + change), std::memory_order_relaxed);
  entries_[kind].fetch_add(static_cast<std::uint64_t>(change), std::memory_order_relaxed);
}

void PostStore::became_occupied(std::uint32_t dense, std::size_t kind) {
  hold_author(dense);
  occupied_[kind].fetch_add(1, std::memory_order_relaxed);
}

void PostStore::became_empty(std::uint32_t dense, std::size_t kind) {
  occupied_[kind].fetch_sub(1, std::memory_order_relaxed);
  drop_author(dense);
}

// Note where in time the oldest entry is, so that the trim finds it. A note that is out of date is skipped there.
void PostStore::watch_expiry(std::uint32_t dense, std::size_t kind) {
  if (config_.reference) return;  // the release looks at every author, and lists need not be in order
  const std::uint32_t time = high(oldest(dense, kind));
  author(dense).wheel[kind] = static_cast<std::uint16_t>(TimeWheel<std::uint32_t>::bucket_of(time));
  list_wheel_.add(time, dense << 2 | static_cast<std::uint32_t>(kind));
}

// Append as the newest entry.
void PostStore::push_back(std::uint32_t dense, std::size_t kind, const std::uint64_t* entry) {
  Author& owner = author(dense);
  const std::size_t words = words_of(kind);
  const std::uint64_t head = owner.head[kind].load(std::memory_order_relaxed);
  count(dense, kind, 1);
  if (head == 0) {
    const std::uint32_t handle = new_chunk(kind, 1);
    Chunk& only = chunk(handle);
    std::copy_n(entry, words, only.entry(0));
    only.end.store(1, std::memory_order_release);
    owner.head[kind].store(pack(high(entry[0]), handle), std::memory_order_release);
    became_occupied(dense, kind);
    watch_expiry(dense, kind);
    return;
  }
  const std::uint32_t tail = low(head);
  Chunk& newest = chunk(tail);
  const std::uint16_t begin = newest.begin.load(std::memory_order_relaxed);
  const std::uint16_t end = newest.end.load(std::memory_order_relaxed);
  if (end < newest.capacity) {
    std::copy_n(entry, words, newest.entry(end));
    newest.end.store(end + 1, std::memory_order_release);
    owner.head[kind].store(pack(high(entry[0]), tail), std::memory_order_release);
    return;
  }
  const std::size_t live = end - begin;
  const std::size_t largest = capacity_of(kLargest, words);
  if (newest.capacity < largest || live + 1 <= largest * 3 / 4) {
    // Grow by copying: a short timeline stays in one piece, which is one cache miss for a reader instead of three.
    const std::size_t wanted = live + 1 <= newest.capacity * std::size_t{3} / 4 ? newest.capacity : newest.capacity + 1;
    const std::uint32_t handle = new_chunk(kind, wanted);
    Chunk& grown = chunk(handle);
    std::copy_n(newest.entry(begin), live * words, grown.entry(0));
    std::copy_n(entry, words, grown.entry(live));
    grown.end.store(static_cast<std::uint16_t>(live + 1), std::memory_order_release);
    const std::uint32_t older = newest.older.load(std::memory_order_relaxed);
    grown.older.store(older, std::memory_order_relaxed);
    if (older != 0) {
      chunk(older).newer = handle;
      grown.newer = newest.newer;
    }
    owner.head[kind].store(pack(high(entry[0]), handle), std::memory_order_release);
    retire(Garbage::chunk, tail);
    return;
  }
  const std::uint32_t handle = new_chunk(kind, largest / 4);
  Chunk& added = chunk(handle);
  std::copy_n(entry, words, added.entry(0));
  added.end.store(1, std::memory_order_release);
  added.older.store(tail, std::memory_order_relaxed);
  added.newer = newest.newer;
  newest.newer = handle;
  owner.head[kind].store(pack(high(entry[0]), handle), std::memory_order_release);
}

// Insert after the entries that are not newer: at the end, but for posts that arrive late.
void PostStore::push(std::uint32_t dense, std::size_t kind, const std::uint64_t* entry) {
  const std::uint64_t head = author(dense).head[kind].load(std::memory_order_relaxed);
  const std::uint32_t created = high(entry[0]);
  if (config_.reference || head == 0 || high(head) <= created) {
    push_back(dense, kind, entry);
    return;
  }
  const std::size_t words = words_of(kind);
  const std::uint32_t front = chunk(low(head)).newer;
  std::uint32_t handle = low(head);
  while (handle != front && high(*chunk(handle).entry(chunk(handle).begin.load(std::memory_order_relaxed))) > created)
    handle = chunk(handle).older.load(std::memory_order_relaxed);
  const Chunk& place = chunk(handle);
  const std::uint16_t begin = place.begin.load(std::memory_order_relaxed);
  const std::uint16_t end = place.end.load(std::memory_order_relaxed);
  std::uint16_t at = end;
  while (at > begin && high(*place.entry(at - 1)) > created) --at;
  std::vector<std::uint64_t> merged(place.entry(begin), place.entry(at));
  merged.insert(merged.end(), entry, entry + words);
  merged.insert(merged.end(), place.entry(at), place.entry(end));
  count(dense, kind, 1);
  replace_chunk(dense, kind, handle, merged);
  if (handle == front && at == begin) watch_expiry(dense, kind);
}

// Put new chunks with `words` in the place of one chunk. One store makes them visible; readers on the old one go on.
void PostStore::replace_chunk(std::uint32_t dense, std::size_t kind, std::uint32_t handle,
                              std::span<const std::uint64_t> words) {
  Author& owner = author(dense);
  const std::size_t width = words_of(kind);
  const std::size_t entries = words.size() / width;
  const std::size_t pieces = entries <= capacity_of(kLargest, width) ? 1 : 2;
  const Chunk& old = chunk(handle);
  const std::uint32_t tail = low(owner.head[kind].load(std::memory_order_relaxed));
  const std::uint32_t front = chunk(tail).newer;
  const std::uint32_t older = old.older.load(std::memory_order_relaxed);

  std::uint32_t first = 0, last = 0;
  for (std::size_t piece = 0; piece < pieces; ++piece) {
    const std::size_t from = entries * piece / pieces, to = entries * (piece + 1) / pieces;
    const std::uint32_t added = new_chunk(kind, to - from);
    Chunk& target = chunk(added);
    std::copy_n(words.data() + from * width, (to - from) * width, target.entry(0));
    target.end.store(static_cast<std::uint16_t>(to - from), std::memory_order_release);
    target.older.store(piece == 0 ? older : last, std::memory_order_release);
    if (piece == 0) {
      first = added;
    } else {
      chunk(last).newer = added;
    }
    last = added;
  }
  if (handle == tail) {
    chunk(last).newer = handle == front ? first : front;
    owner.head[kind].store(pack(high(words[words.size() - width]), last), std::memory_order_release);
  } else {
    chunk(last).newer = old.newer;
    chunk(old.newer).older.store(last, std::memory_order_release);
  }
  if (handle == front) {
    chunk(low(owner.head[kind].load(std::memory_order_relaxed))).newer = first;
  } else {
    chunk(older).newer = first;
  }
  retire(Garbage::chunk, handle);
}

// The first word of the oldest entry of a timeline that has one.
std::uint64_t PostStore::oldest(std::uint32_t dense, std::size_t kind) const {
  const Chunk& front = chunk(chunk(low(author(dense).head[kind].load(std::memory_order_relaxed))).newer);
  return *front.entry(front.begin.load(std::memory_order_relaxed));
}

void PostStore::pop_oldest(std::uint32_t dense, std::size_t kind) {
  Author& owner = author(dense);
  const std::uint32_t tail = low(owner.head[kind].load(std::memory_order_relaxed));
  const std::uint32_t front = chunk(tail).newer;
  Chunk& oldest_chunk = chunk(front);
  const auto begin = static_cast<std::uint16_t>(oldest_chunk.begin.load(std::memory_order_relaxed) + 1);
  count(dense, kind, -1);
  if (begin < oldest_chunk.end.load(std::memory_order_relaxed)) {
    oldest_chunk.begin.store(begin, std::memory_order_relaxed);
    return;
  }
  if (front == tail) {
    owner.head[kind].store(0, std::memory_order_release);
    retire(Garbage::chunk, front);
    became_empty(dense, kind);
    return;
  }
  const std::uint32_t next = oldest_chunk.newer;
  chunk(next).older.store(0, std::memory_order_release);
  chunk(tail).newer = next;
  retire(Garbage::chunk, front);
}

// Append the words of all entries, oldest first.
void PostStore::collect(std::uint32_t dense, std::size_t kind, std::vector<std::uint64_t>& words) const {
  const std::uint64_t head = author(dense).head[kind].load(std::memory_order_relaxed);
  if (head == 0) return;
  for (std::uint32_t handle = chunk(low(head)).newer;; handle = chunk(handle).newer) {
    const Chunk& part = chunk(handle);
    words.insert(words.end(), part.entry(part.begin.load(std::memory_order_relaxed)),
                 part.entry(part.end.load(std::memory_order_relaxed)));
    if (handle == low(head)) return;
  }
}

// Replace the whole timeline; the caller accounts for the posts that are no longer in it.
void PostStore::rebuild(std::uint32_t dense, std::size_t kind, std::span<const std::uint64_t> words) {
  Author& owner = author(dense);
  const std::size_t width = words_of(kind), largest = capacity_of(kLargest, width);
  const std::size_t entries = words.size() / width;
  const std::uint64_t head = owner.head[kind].load(std::memory_order_relaxed);
  std::uint32_t first = 0, last = 0;
  for (std::size_t from = 0; from < entries; from += largest) {
    const std::size_t size = std::min(largest, entries - from);
    const std::uint32_t added = new_chunk(kind, size);
    Chunk& target = chunk(added);
    std::copy_n(words.data() + from * width, size * width, target.entry(0));
    target.end.store(static_cast<std::uint16_t>(size), std::memory_order_release);
    target.older.store(last, std::memory_order_release);
    if (last != 0) chunk(last).newer = added;
    if (first == 0) first = added;
    last = added;
  }
  if (last != 0) chunk(last).newer = first;
  owner.head[kind].store(last == 0 ? 0 : pack(high(words[words.size() - width]), last), std::memory_order_release);
  count(dense, kind, static_cast<std::int64_t>(entries) - owner.length[kind].load(std::memory_order_relaxed));
  if (head == 0 && last != 0) became_occupied(dense, kind);
  if (head != 0) {
    for (std::uint32_t handle = low(head); handle != 0;) {
      const std::uint32_t older = chunk(handle).older.load(std::memory_order_relaxed);
      retire(Garbage::chunk, handle);
      handle = older;
    }
    if (last == 0) became_empty(dense, kind);
  }
}

// Take out the entries whose post is gone.
void PostStore::compact(std::uint32_t dense, std::size_t kind) {
  const std::size_t width = words_of(kind);
  std::vector<std::uint64_t> words, kept;
  collect(dense, kind, words);
  kept.reserve(words.size());
  std::vector<std::uint32_t> gone;
  for (std::size_t i = 0; i < words.size(); i += width) {
    if ((state(low(words[i])) & kAlive) != 0) {
      kept.insert(kept.end(), words.begin() + static_cast<std::ptrdiff_t>(i),
                  words.begin() + static_cast<std::ptrdiff_t>(i + width));
    } else {
      gone.push_back(low(words[i]));
    }
  }
  dead_[kind].fetch_sub(author(dense).dead[kind], std::memory_order_relaxed);
  author(dense).dead[kind] = 0;
  hold_author(dense);  // it may be empty now, and must outlive this call
  rebuild(dense, kind, kept);
  if (!kept.empty() && high(kept[0]) != high(words[0])) watch_expiry(dense, kind);
  for (const std::uint32_t slot : gone) drop(slot);
  drop_author(dense);
}

void PostStore::sort_by_time(std::uint32_t dense, std::size_t kind) {
  const std::size_t width = words_of(kind);
  std::vector<std::uint64_t> words;
  collect(dense, kind, words);
  std::vector<std::size_t> order(words.size() / width);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return high(words[a * width]) < high(words[b * width]); });
  if (std::is_sorted(order.begin(), order.end())) return;
  std::vector<std::uint64_t> sorted;
  sorted.reserve(words.size());
  for (const std::size_t at : order)
    sorted.insert(sorted.end(), words.begin() + static_cast<std::ptrdiff_t>(at * width),
                  words.begin() + static_cast<std::ptrdiff_t>((at + 1) * width));
  rebuild(dense, kind, sorted);
}

}  // namespace xfast::thunder
