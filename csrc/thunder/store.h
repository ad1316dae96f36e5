// The in-network post store (THUNDER §2, §3): one writer at a time, any number of readers that never wait.
//
// store.cpp writes, expiry.cpp removes and reuses, query.cpp reads, snapshot.cpp saves and loads; layout.h says how it
// lies in memory.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/epoch.h"
#include "common/flat_index.h"
#include "common/slab_pool.h"
#include "thunder/forwarding.h"
#include "thunder/layout.h"
#include "thunder/time_wheel.h"

namespace xfast::thunder {

struct Config {
  std::uint32_t retention = 172'800;  // seconds
  std::uint32_t max_original = 20, max_secondary = 10, max_video = 20;
  std::uint32_t max_scan = 100;
  std::uint32_t max_results = 500, max_video_results = 100;
  std::uint32_t timeout_ms = 0;  // 0 = none
  std::int64_t tombstone_key = 0;
  bool reference = false;  // follow every oddity of the release
};

// Columns of posts, each `count` long; a null column is all unset. In the optional references 0 means unset.
struct PostColumns {
  std::size_t count = 0;
  const std::int64_t *post_id = nullptr, *author_id = nullptr, *created_at = nullptr;
  const std::int64_t *parent_id = nullptr, *parent_user = nullptr;
  const std::int64_t *source_id = nullptr, *source_user = nullptr, *conversation = nullptr;
  const std::uint8_t *is_retweet = nullptr, *is_reply = nullptr, *has_video = nullptr;
};

struct Query {
  std::int64_t viewer = 0;
  std::span<const std::int64_t> following, exclude;
  std::uint32_t max_results = 0;  // 0 = the store's default
  bool video = false;
  std::uint32_t now = 0;  // unix seconds
  // Milliseconds since some start, asked once when the query begins and once before each followee; empty = steady
  // clock.
  std::function<double()> elapsed_ms;
};

// The answer, in columns, newest first. All int64 columns lie in one block, all flags in another.
class PostTable {
 public:
  static constexpr std::size_t kIds = 8, kFlags = 3;
  enum Id { post_id, author_id, created_at, parent_id, parent_user, source_id, source_user, conversation };
  enum Flag { is_retweet, is_reply, has_video };

  void resize(std::size_t count) {
    count_ = count;
    ids_ = std::make_unique_for_overwrite<std::int64_t[]>(count * kIds);
    flags_ = std::make_unique_for_overwrite<std::uint8_t[]>(count * kFlags);
  }
  [[nodiscard]] std::size_t size() const { return count_; }
  std::int64_t* ids(std::size_t column) { return ids_.get() + column * count_; }
  std::uint8_t* flags(std::size_t column) { return flags_.get() + column * count_; }

  bool timed_out = false;
  std::uint64_t eligible = 0;         // entries in the visited timelines
  std::uint64_t deleted_skipped = 0;  // entries whose post had been deleted

 private:
  std::size_t count_ = 0;
  std::unique_ptr<std::int64_t[]> ids_;
  std::unique_ptr<std::uint8_t[]> flags_;
};

struct Stats {
  std::uint64_t users = 0, posts = 0, original = 0, secondary = 0, video = 0, deleted = 0;
};

using MemoryParts = std::vector<std::pair<const char*, std::size_t>>;

struct ReadError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class PostStore {
 public:
  explicit PostStore(const Config& config);
  ~PostStore();
  PostStore(const PostStore&) = delete;
  PostStore& operator=(const PostStore&) = delete;

  [[nodiscard]] const Config& config() const { return config_; }

  // Writers; they take turns. Times are unix seconds.
  std::size_t insert(const PostColumns& posts, std::uint32_t now);
  void remove(std::span<const std::int64_t> ids, std::span<const std::int64_t> deleted_at);
  std::size_t trim(std::uint32_t now);
  std::size_t finalize(std::uint32_t now);
  void clear();
  void set_account_state(std::span<const std::int64_t> users, AccountState state);

  // Readers.
  void query(const Query& query, PostTable& out) const;
  [[nodiscard]] AccountState account_state(std::int64_t user) const;
  [[nodiscard]] Stats stats() const;
  [[nodiscard]] MemoryParts memory() const;

  // The whole state in one buffer, with the caller's `position` inside; waits for its turn among the writers.
  [[nodiscard]] std::string save(std::string_view position) const;
  // Fills an empty store and returns the position. Throws ReadError and leaves the store unusable on bad input.
  std::string load(std::string_view snapshot);

 private:
  struct Scratch;  // what a query needs beside the store
  class Reader;
  struct Tombstone {
    std::uint32_t slot, deleted_at;
  };
  enum class Garbage : std::uint8_t { record, slot, author, chunk, index_table, forwarding_table };

  // -- small access paths
  [[nodiscard]] SlotGroup& slots(std::uint32_t slot) const { return slots_.group(slot); }
  [[nodiscard]] Author& author(std::uint32_t dense) const {
    return authors_.group(dense).author[Numbers<AuthorGroup>::in_group(dense)];
  }
  static constexpr std::uint32_t in(std::uint32_t slot) { return Numbers<SlotGroup>::in_group(slot); }
  [[nodiscard]] std::int64_t post_id(std::uint32_t slot) const { return slots(slot).id[in(slot)]; }
  [[nodiscard]] std::uint8_t state(std::uint32_t slot) const {
    return slots(slot).state[in(slot)].load(std::memory_order_acquire);
  }
  [[nodiscard]] Chunk& chunk(std::uint32_t handle) const { return *reinterpret_cast<Chunk*>(chunks_.at(handle)); }
  [[nodiscard]] const std::uint32_t* reference_words(std::uint32_t handle) const {
    return reinterpret_cast<const std::uint32_t*>(references_.at(handle));
  }
  // The slot that stands for the id of `slot` today.
  [[nodiscard]] std::uint32_t current(std::uint32_t slot) const {
    if ((state(slot) & kMoved) == 0) return slot;
    const std::uint32_t to = forwarding_.find(slot);
    return to == kNone ? slot : to;
  }
  auto post_key() const {
    return [this](std::uint32_t slot) { return post_id(slot); };
  }
  auto author_key() const {
    return [this](std::uint32_t dense) { return author(dense).id; };
  }

  // -- numbers and who holds them
  std::uint32_t new_slot(std::int64_t id);
  std::uint32_t intern_post(std::int64_t id);
  std::uint32_t intern_author(std::int64_t id);
  void hold(std::uint32_t slot) { ++slots(slot).holders[in(slot)]; }
  void drop(std::uint32_t slot);
  void free_if_unused(std::uint32_t slot);
  void hold_author(std::uint32_t dense) { ++author(dense).holders; }
  void drop_author(std::uint32_t dense);

  // -- writing (store.cpp)
  bool apply(const PostColumns& posts, std::size_t row);
  void write_record(std::uint32_t slot, const PostColumns& posts, std::size_t row, std::uint8_t fields = 0);
  void list(std::uint32_t slot);
  [[nodiscard]] std::uint64_t secondary_word(std::uint32_t slot) const;
  [[nodiscard]] bool same_record(std::uint32_t slot, const PostColumns& posts, std::size_t row) const;
  void move(std::uint32_t old, std::uint32_t to);
  void kill(std::uint32_t slot);
  void release_record(std::uint32_t slot);
  void forget_in_timelines(std::uint32_t slot);
  void remove_one(std::int64_t id, std::uint32_t deleted_at);
  void bury(std::uint32_t slot);
  void lift_tombstone(std::uint32_t slot);
  std::size_t trim_reference(std::uint32_t now);
  std::size_t trim_fixed(std::uint32_t now);
  void erase_posts_of(std::uint32_t dense);
  [[nodiscard]] std::vector<std::uint32_t> all_authors() const;
  void finish_write();
  void shrink();

  // -- timelines (timeline.cpp)
  static constexpr std::size_t words_of(std::size_t kind) { return kind == kSecondary ? 2 : 1; }
  std::uint32_t new_chunk(std::size_t kind, std::size_t entries);
  void push_back(std::uint32_t dense, std::size_t kind, const std::uint64_t* entry);
  void push(std::uint32_t dense, std::size_t kind, const std::uint64_t* entry);
  [[nodiscard]] std::uint64_t oldest(std::uint32_t dense, std::size_t kind) const;
  void pop_oldest(std::uint32_t dense, std::size_t kind);
  void collect(std::uint32_t dense, std::size_t kind, std::vector<std::uint64_t>& words) const;
  void rebuild(std::uint32_t dense, std::size_t kind, std::span<const std::uint64_t> words);
  void replace_chunk(std::uint32_t dense, std::size_t kind, std::uint32_t handle, std::span<const std::uint64_t> words);
  void compact(std::uint32_t dense, std::size_t kind);
  void sort_by_time(std::uint32_t dense, std::size_t kind);
  void watch_expiry(std::uint32_t dense, std::size_t kind);
  void became_occupied(std::uint32_t dense, std::size_t kind);
  void became_empty(std::uint32_t dense, std::size_t kind);
  void count(std::uint32_t dense, std::size_t kind, std::int64_t change);

  // -- reclaiming
  void retire(Garbage kind, std::uint64_t what) {
    open_garbage_.push_back(static_cast<std::uint64_t>(kind) << 56 | what);
  }
  void retire(FlatIndex::Table* table);
  void retire(Forwarding::Table* table);
  void reclaim();
  void discard(std::uint64_t item);

  const Config config_;
  mutable std::mutex writer_;
  EpochDomain epoch_;
  Numbers<SlotGroup> slots_;
  Numbers<AuthorGroup> authors_;
  SlabPool<16> chunks_;
  SlabPool<4> references_;
  FlatIndex post_index_, author_index_;
  Forwarding forwarding_;

  // Oldest entries by time, so that a trim looks only at what expired. Values: dense author << 2 | timeline.
  TimeWheel<std::uint32_t> list_wheel_;
  TimeWheel<Tombstone> tombstone_wheel_;
  std::vector<std::uint64_t> open_garbage_, closed_garbage_;
  std::vector<std::uint64_t> words_buffer_;
  std::vector<std::uint32_t> rows_buffer_;

  // Counts and sizes that any thread may read.
  std::atomic<std::uint64_t> posts_{0}, tombstones_{0};
  std::array<std::atomic<std::uint64_t>, kKinds> occupied_{};  // authors with a timeline of that kind
  std::array<std::atomic<std::uint64_t>, kKinds> entries_{}, dead_{};
  std::atomic<std::uint32_t> restricted_accounts_{0};
  // Posts that took the place of another of their id. Lookups ask all the time: a cache line that changes with nothing
  // else.
  alignas(64) std::atomic<std::uint64_t> replacements_{0};
  alignas(64) std::atomic<std::size_t> book_bytes_{0}, expiry_bytes_{0}, garbage_bytes_{0}, forwarding_bytes_{0};
};

}  // namespace xfast::thunder
