// How posts, authors and timelines lie in memory (THUNDER §8), and which of it a reader may touch.
//
// A post is a slot: a dense 32-bit number for one post id. Slots are also made for ids that are only referred to (a
// parent that was never seen), so a reference is a slot number too and a parent that arrives later is simply found.
// What readers see of a slot is written before its state byte announces it and never changes until the slot is reused,
// which needs a grace period. A post that replaces another of the same id gets a new slot; the old one says "moved".
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/directory.h"

namespace xfast::thunder {

inline constexpr std::uint32_t kNone = ~0u;

// State of a slot, readable at any time.
inline constexpr std::uint8_t kAlive = 1, kRetweet = 2, kReply = 4, kHasVideo = 8, kDeleted = 16, kMoved = 32,
                              kBorn = 64,  // was alive once: its number may still stand in a timeline
    kRecord = 128;                         // its record (author, references) still holds references

// Which references a record has, in the order in which they are stored.
inline constexpr std::uint8_t kHasParent = 1, kHasParentUser = 2, kHasSource = 4, kHasSourceUser = 8,
                              kConversationMask = 48, kConversationNone = 0, kConversationSelf = 16,
                              kConversationParent = 32, kConversationStored = 48,
                              kInVideo = 64,  // listed in the video timeline
    kReplaces = 128;                          // another slot stood for the id before; in memory only

struct SlotGroup {
  static constexpr std::uint32_t kSlots = 4096;
  std::array<std::int64_t, kSlots> id;
  std::array<std::uint32_t, kSlots> author;      // dense author
  std::array<std::uint32_t, kSlots> created;     // unix seconds
  std::array<std::uint32_t, kSlots> references;  // handle of the reference words, 0 = none
  std::array<std::uint32_t, kSlots> holders;     // writer only: timelines, tombstones, records that name this slot
  std::array<std::atomic<std::uint8_t>, kSlots> state;
  std::array<std::uint8_t, kSlots> fields;

  std::uint32_t& link(std::uint32_t offset) { return holders[offset]; }  // of free numbers
};

// The timelines of an author.
inline constexpr std::size_t kOriginal = 0, kSecondary = 1, kVideo = 2, kKinds = 3;

enum class AccountState : std::uint8_t { active = 0, suspended = 1, is_protected = 2, deactivated = 3, erased = 4 };

inline bool hidden(AccountState state) { return state != AccountState::active && state != AccountState::is_protected; }

// One cache line: what a lookup needs of a followee is one miss away.
struct alignas(64) Author {
  std::int64_t id;
  // Newest created_at in the high half, handle of the newest chunk in the low half; 0 = empty. One load gives both, so
  // a reader can leave a list alone without touching it.
  std::array<std::atomic<std::uint64_t>, kKinds> head;
  std::array<std::atomic<std::uint32_t>, kKinds> length;  // entries, dead ones included
  std::array<std::uint16_t, kKinds> dead;                 // writer only: entries whose post is gone
  std::array<std::uint16_t, kKinds> wheel;                // writer only: expiry bucket of the oldest entry, low bits
  std::uint32_t holders;                                  // writer only: records and entries that name this author
  std::atomic<AccountState> state;
};
static_assert(sizeof(Author) == 64);

struct AuthorGroup {
  static constexpr std::uint32_t kSlots = 1024;
  std::array<Author, kSlots> author;

  std::uint32_t& link(std::uint32_t offset) { return author[offset].holders; }
};

// A piece of a timeline, oldest entry first. Entries are one word (original, video) or two (secondary):
//   word 0: created_at << 32 | slot;  word 1: user << 32 | parent slot, where user is the dense author replied to, or
//   for a repost the author of the source.
// A reachable chunk only ever grows at its end and shrinks at its beginning; anything else replaces it by a copy.
struct Chunk {
  std::atomic<std::uint32_t> older;  // 0 = none
  std::uint32_t newer;               // writer only; in the newest chunk: the oldest one
  std::atomic<std::uint16_t> begin, end;
  std::uint16_t capacity;
  std::uint16_t words;

  static constexpr std::size_t kHeaderBytes = 16;
  [[nodiscard]] std::uint64_t* entry(std::size_t index) {
    return reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::byte*>(this) + kHeaderBytes) + index * words;
  }
  [[nodiscard]] const std::uint64_t* entry(std::size_t index) const { return const_cast<Chunk*>(this)->entry(index); }
};
static_assert(sizeof(Chunk) == Chunk::kHeaderBytes);

inline std::uint32_t high(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }
inline std::uint32_t low(std::uint64_t word) { return static_cast<std::uint32_t>(word); }
inline std::uint64_t pack(std::uint32_t high_half, std::uint32_t low_half) {
  return static_cast<std::uint64_t>(high_half) << 32 | low_half;
}

// The numbers 0 … n-1 of slots or authors, handed out lowest group first so that old groups can empty and go back.
template <class Group>
class Numbers {
 public:
  Numbers(std::size_t groups, const char* what) : groups_(groups, what) {}

  [[nodiscard]] Group& group(std::uint32_t number) const { return groups_[number / Group::kSlots]; }
  static constexpr std::uint32_t in_group(std::uint32_t number) { return number % Group::kSlots; }

  std::uint32_t allocate() {
    if (open_.empty()) {
      const std::uint32_t added = groups_.add();
      if (added >= uses_.size()) uses_.resize(added + 1);
      uses_[added] = Use{};
      open_.push_back(added);
      const std::uint32_t end = (added + 1) * Group::kSlots;
      if (end > limit_.load(std::memory_order_relaxed)) limit_.store(end, std::memory_order_release);
    }
    const std::uint32_t index = open_.back();
    Use& use = uses_[index];
    std::uint32_t offset = 0;
    if (use.free == kNone) {
      offset = use.bump++;
    } else {
      offset = use.free;
      use.free = groups_[index].link(offset);
    }
    if (++use.live == Group::kSlots) open_.pop_back();
    return index * Group::kSlots + offset;
  }

  void release(std::uint32_t number) {
    const std::uint32_t index = number / Group::kSlots;
    Use& use = uses_[index];
    if (use.live-- == Group::kSlots) open_.push_back(index);
    if (use.live == 0 && open_.back() != index) {
      std::erase(open_, index);
      use = Use{};
      groups_.remove(index);
    } else {
      groups_[index].link(in_group(number)) = use.free;
      use.free = in_group(number);
    }
  }

  // Give back the groups that hold nothing.
  void shrink() {
    std::erase_if(open_, [&](std::uint32_t index) {
      if (uses_[index].live != 0) return false;
      uses_[index] = Use{};
      groups_.remove(index);
      return true;
    });
  }

  // One more than the largest number handed out so far; readable from any thread.
  [[nodiscard]] std::uint32_t limit() const { return limit_.load(std::memory_order_acquire); }
  [[nodiscard]] bool present(std::uint32_t number) const { return groups_.present(number / Group::kSlots); }
  [[nodiscard]] std::size_t bytes() const { return groups_.bytes(); }
  // Writer: what the book-keeping of free numbers takes.
  [[nodiscard]] std::size_t book_bytes() const {
    return uses_.capacity() * sizeof(Use) + open_.capacity() * sizeof(std::uint32_t);
  }

 private:
  struct Use {
    std::uint32_t live = 0, bump = 0, free = kNone;
  };

  Directory<Group> groups_;
  std::vector<Use> uses_;
  std::vector<std::uint32_t> open_;  // groups with room
  std::atomic<std::uint32_t> limit_{0};
};

}  // namespace xfast::thunder
