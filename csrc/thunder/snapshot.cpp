// The whole store as one checksummed block of little-endian columns, and back.
//
//   header (128 bytes, with its own checksum): magic, version, sizes, checksum of the body
//   body: position | author ids, states | slot ids, states, fields, authors, times | reference words |
//         timelines: author, kind, length | entries | tombstones            (each column padded to 8 bytes)
//
// Slots and authors are numbered anew from 0, in the order of their numbers in the store, so that posts that lay
// together lie together again. Slots that moved are left out: what led to them leads to the current one.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "common/crc32c.h"
#include "thunder/store.h"

namespace xfast::thunder {
namespace {

static_assert(std::endian::native == std::endian::little, "snapshots are written in little-endian order");

constexpr char kMagic[8] = {'X', 'F', 'T', 'H', 'U', 'N', 'D', 'R'};
constexpr std::uint32_t kVersion = 1;

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t reference;  // 1 = quirks of the release
  std::int64_t tombstone_key;
  std::uint64_t position, authors, slots, words, lists, entries, tombstones;  // counts
  std::uint64_t body_bytes;
  std::uint32_t body_crc;
  char reserved[28];
  std::uint32_t header_crc;  // of everything before it
  std::uint32_t padding;
};
static_assert(sizeof(Header) == 128);

class Packer {
 public:
  explicit Packer(std::string& out) : out_(out) {}
  template <class T>
  void add(const std::vector<T>& column) {
    add(column.data(), column.size() * sizeof(T));
  }
  void add(const void* data, std::size_t bytes) {
    out_.append(static_cast<const char*>(data), bytes);
    out_.append((8 - bytes % 8) % 8, '\0');
  }

 private:
  std::string& out_;
};

class Unpacker {
 public:
  explicit Unpacker(std::string_view body) : body_(body) {}
  // The next column; its memory is that of the body, which starts 8-byte aligned.
  template <class T>
  std::span<const T> take(std::uint64_t count, const char* what) {
    const std::uint64_t left = body_.size() - at_;
    if (count > left / sizeof(T)) throw ReadError(std::string("truncated in ") + what);
    const std::uint64_t bytes = count * sizeof(T), padded = bytes + (8 - bytes % 8) % 8;
    if (padded > left) throw ReadError(std::string("truncated in ") + what);
    const auto* data = reinterpret_cast<const T*>(body_.data() + at_);
    at_ += padded;
    return {data, static_cast<std::size_t>(count)};
  }
  [[nodiscard]] bool finished() const { return at_ == body_.size(); }

 private:
  std::string_view body_;
  std::size_t at_ = 0;
};

void require(bool condition, const char* what) {
  if (!condition) throw ReadError(std::string("inconsistent: ") + what);
}

std::uint32_t words_in(std::uint8_t fields) {
  return static_cast<std::uint32_t>(
      std::popcount(static_cast<unsigned>(fields & (kHasParent | kHasParentUser | kHasSource | kHasSourceUser))) +
      ((fields & kConversationMask) == kConversationStored ? 1 : 0));
}

// Which of the reference words are authors: bit i of the result for word i.
std::uint32_t author_words(std::uint8_t fields) {
  std::uint32_t mask = 0, position = 0;
  if ((fields & kHasParent) != 0) ++position;
  if ((fields & kHasParentUser) != 0) mask |= 1u << position++;
  if ((fields & kHasSource) != 0) ++position;
  if ((fields & kHasSourceUser) != 0) mask |= 1u << position;
  return mask;
}

}  // namespace

std::string PostStore::save(std::string_view position) const {
  const std::lock_guard lock(writer_);
  // New numbers.
  std::vector<std::uint32_t> slot_number(slots_.limit(), kNone), author_number(authors_.limit(), kNone);
  post_index_.for_each([&](std::uint32_t slot) { slot_number[slot] = 0; });
  author_index_.for_each([&](std::uint32_t dense) { author_number[dense] = 0; });
  const auto renumber = [](std::vector<std::uint32_t>& numbers) {
    std::uint32_t next = 0;
    for (std::uint32_t& number : numbers)
      if (number == 0) number = next++;
    return next;
  };
  Header header{};
  header.slots = renumber(slot_number);
  header.authors = renumber(author_number);
  forwarding_.for_each([&](std::uint32_t old, std::uint32_t to) { slot_number[old] = slot_number[to]; });

  std::vector<std::int64_t> author_ids(header.authors), slot_ids(header.slots);
  std::vector<std::uint8_t> author_states(header.authors), states(header.slots), fields(header.slots);
  std::vector<std::uint32_t> slot_authors(header.slots, kNone), created(header.slots), words;
  std::vector<std::uint32_t> list_authors, list_lengths;
  std::vector<std::uint8_t> list_kinds;
  std::vector<std::uint64_t> entries, tombstones, timeline;
  words.reserve(header.slots);
  entries.reserve(entries_[kOriginal].load() + entries_[kSecondary].load() + entries_[kVideo].load());

  for (std::uint32_t slot = 0; slot < slot_number.size(); ++slot) {
    const std::uint32_t number = slot_number[slot];
    if (number == kNone) {
      if (!slots_.present(slot)) slot |= SlotGroup::kSlots - 1;
      continue;
    }
    const SlotGroup& group = slots(slot);
    const std::uint8_t now = state(slot);
    if ((now & kMoved) != 0) continue;
    slot_ids[number] = group.id[in(slot)];
    states[number] = now & kDeleted;
    if ((now & kAlive) == 0) continue;
    states[number] = now & (kAlive | kRetweet | kReply | kHasVideo | kDeleted);
    fields[number] = static_cast<std::uint8_t>(group.fields[in(slot)] & ~kReplaces);
    slot_authors[number] = author_number[group.author[in(slot)]];
    created[number] = group.created[in(slot)];
    const std::uint32_t count = words_in(fields[number]), authors = author_words(fields[number]);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t word = reference_words(group.references[in(slot)])[i];
      words.push_back((authors >> i & 1) != 0 ? author_number[word] : slot_number[word]);
    }
  }
  for (std::uint32_t dense = 0; dense < author_number.size(); ++dense) {
    const std::uint32_t number = author_number[dense];
    if (number == kNone) continue;
    const Author& owner = author(dense);
    author_ids[number] = owner.id;
    author_states[number] = static_cast<std::uint8_t>(owner.state.load(std::memory_order_relaxed));
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
      timeline.clear();
      collect(dense, kind, timeline);
      const std::size_t before = entries.size();
      for (std::size_t i = 0; i < timeline.size(); i += words_of(kind)) {
        const std::uint32_t slot = low(timeline[i]);
        // In reference mode a reference to a post that is gone counts; otherwise it is only not yet cleaned away.
        if (config_.reference || (state(slot) & kAlive) != 0)
          entries.push_back(pack(high(timeline[i]), slot_number[slot]));
      }
      if (entries.size() == before) continue;
      list_authors.push_back(number);
      list_kinds.push_back(static_cast<std::uint8_t>(kind));
      list_lengths.push_back(static_cast<std::uint32_t>(entries.size() - before));
    }
  }
  tombstone_wheel_.for_each([&](const Tombstone& tombstone) {
    tombstones.push_back(pack(tombstone.deleted_at, slot_number[tombstone.slot]));
  });

  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.reference = config_.reference ? 1 : 0;
  header.tombstone_key = config_.tombstone_key;
  header.position = position.size();
  header.words = words.size();
  header.lists = list_authors.size();
  header.entries = entries.size();
  header.tombstones = tombstones.size();
  std::string out(sizeof(Header), '\0');
  out.reserve(sizeof(Header) + position.size() + header.authors * 9 + header.slots * 18 + words.size() * 4 +
              list_authors.size() * 9 + (entries.size() + tombstones.size()) * 8 + 128);
  Packer packer(out);
  packer.add(position.data(), position.size());
  packer.add(author_ids);
  packer.add(author_states);
  packer.add(slot_ids);
  packer.add(states);
  packer.add(fields);
  packer.add(slot_authors);
  packer.add(created);
  packer.add(words);
  packer.add(list_authors);
  packer.add(list_kinds);
  packer.add(list_lengths);
  packer.add(entries);
  packer.add(tombstones);
  header.body_bytes = out.size() - sizeof(Header);
  header.body_crc = crc32c(0, out.data() + sizeof(Header), header.body_bytes);
  header.header_crc = crc32c(0, &header, offsetof(Header, header_crc));
  std::memcpy(out.data(), &header, sizeof(Header));
  return out;
}

std::string PostStore::load(std::string_view snapshot) {
  const std::lock_guard lock(writer_);
  if (posts_.load() != 0 || tombstones_.load() != 0 || author_index_.size() != 0)
    throw ReadError("the store is not empty");
  Header header{};
  if (snapshot.size() < sizeof(Header)) throw ReadError("truncated: shorter than its header");
  std::memcpy(&header, snapshot.data(), sizeof(Header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) throw ReadError("not a post store snapshot");
  if (header.version > kVersion)
    throw ReadError("version " + std::to_string(header.version) + " is newer than " + std::to_string(kVersion) +
                    ", the newest that can be read");
  if (header.version == 0) throw ReadError("corrupt: version 0");
  if (header.header_crc != crc32c(0, &header, offsetof(Header, header_crc)))
    throw ReadError("corrupt: the checksum of the header does not match");
  const std::string_view body = snapshot.substr(sizeof(Header));
  if (header.body_bytes != body.size())
    throw ReadError("truncated: " + std::to_string(body.size()) + " bytes after the header, which promises " +
                    std::to_string(header.body_bytes));
  if (header.body_crc != crc32c(0, body.data(), body.size()))
    throw ReadError("corrupt: the checksum of the content does not match");
  if ((header.reference != 0) != config_.reference)
    throw ReadError(std::string("written with quirks=\"") + (header.reference != 0 ? "reference" : "fixed") +
                    "\", the store has \"" + (config_.reference ? "reference" : "fixed") + "\"");
  if (config_.reference && header.tombstone_key != config_.tombstone_key)
    throw ReadError("written with tombstone_key=" + std::to_string(header.tombstone_key) + ", the store has " +
                    std::to_string(config_.tombstone_key));

  Unpacker in_body(body);
  const auto position = in_body.take<char>(header.position, "the position");
  const auto author_ids = in_body.take<std::int64_t>(header.authors, "the authors");
  const auto author_states = in_body.take<std::uint8_t>(header.authors, "the account states");
  const auto slot_ids = in_body.take<std::int64_t>(header.slots, "the post ids");
  const auto states = in_body.take<std::uint8_t>(header.slots, "the post states");
  const auto fields = in_body.take<std::uint8_t>(header.slots, "the post fields");
  const auto slot_authors = in_body.take<std::uint32_t>(header.slots, "the post authors");
  const auto created = in_body.take<std::uint32_t>(header.slots, "the post times");
  const auto words = in_body.take<std::uint32_t>(header.words, "the references");
  const auto list_authors = in_body.take<std::uint32_t>(header.lists, "the timeline authors");
  const auto list_kinds = in_body.take<std::uint8_t>(header.lists, "the timeline kinds");
  const auto list_lengths = in_body.take<std::uint32_t>(header.lists, "the timeline lengths");
  const auto entries = in_body.take<std::uint64_t>(header.entries, "the timelines");
  const auto tombstones = in_body.take<std::uint64_t>(header.tombstones, "the tombstones");
  require(in_body.finished(), "bytes after the end");

  // Numbers come out as in the file: a fresh store hands them out from 0.
  retire(author_index_.reserve(author_ids.size(), author_key()));
  retire(post_index_.reserve(slot_ids.size(), post_key()));
  for (std::size_t i = 0; i < author_ids.size(); ++i) {
    require(intern_author(author_ids[i]) == i, "an author twice");
    require(author_states[i] <= static_cast<std::uint8_t>(AccountState::erased), "an account state");
    if (author_states[i] == 0) continue;
    author(static_cast<std::uint32_t>(i)).state.store(static_cast<AccountState>(author_states[i]));
    hold_author(static_cast<std::uint32_t>(i));
    restricted_accounts_.fetch_add(1, std::memory_order_relaxed);
  }
  constexpr std::size_t kAhead = 16;
  for (std::size_t i = 0; i < slot_ids.size(); ++i) {
    if (i + kAhead < slot_ids.size()) FlatIndex::prefetch(post_index_.table(), slot_ids[i + kAhead]);
    require(intern_post(slot_ids[i]) == i, "a post id twice");
  }
  std::size_t next_word = 0;
  for (std::uint32_t slot = 0; slot < slot_ids.size(); ++slot) {
    constexpr std::uint8_t kFlags = kAlive | kRetweet | kReply | kHasVideo;
    require((states[slot] & ~(kFlags | kDeleted)) == 0, "a post state");
    SlotGroup& group = slots(slot);
    if ((states[slot] & kAlive) != 0) {
      require((states[slot] & kDeleted) == 0, "a post both present and deleted");
      require((fields[slot] & kReplaces) == 0, "post fields");
      require(slot_authors[slot] < author_ids.size(), "the author of a post");
      const std::uint32_t count = words_in(fields[slot]), authors = author_words(fields[slot]);
      require(words.size() - next_word >= count, "too few references");
      if (count != 0) {
        const std::uint32_t handle = references_.allocate(count);
        auto* target = reinterpret_cast<std::uint32_t*>(references_.at(handle));
        for (std::uint32_t i = 0; i < count; ++i) {
          const std::uint32_t word = words[next_word++];
          if ((authors >> i & 1) != 0) {
            require(word < author_ids.size(), "a reference to an author");
            hold_author(word);
          } else {
            require(word < slot_ids.size(), "a reference to a post");
            hold(word);
          }
          target[i] = word;
        }
        group.references[in(slot)] = handle;
      }
      group.author[in(slot)] = slot_authors[slot];
      group.created[in(slot)] = created[slot];
      group.fields[in(slot)] = fields[slot];
      hold_author(slot_authors[slot]);
      posts_.fetch_add(1, std::memory_order_relaxed);
      group.state[in(slot)].store(static_cast<std::uint8_t>((states[slot] & kFlags) | kBorn | kRecord),
                                  std::memory_order_release);
    }
    if ((states[slot] & kDeleted) != 0 && config_.reference) bury(slot);
  }
  require(next_word == words.size(), "too many references");

  // How often each post may and must be listed, where timelines hold nothing but living posts.
  std::vector<std::uint8_t> listed(config_.reference ? 0 : slot_ids.size());
  std::size_t next_entry = 0;
  std::vector<std::uint64_t> timeline;
  for (std::size_t i = 0; i < list_authors.size(); ++i) {
    const std::uint32_t dense = list_authors[i];
    const std::size_t kind = list_kinds[i], length = list_lengths[i];
    require(dense < author_ids.size() && kind < kKinds && length != 0 && length <= entries.size() - next_entry,
            "a timeline");
    require(author(dense).head[kind].load(std::memory_order_relaxed) == 0, "a timeline twice");
    timeline.clear();
    std::uint32_t last = 0;
    for (const std::uint64_t entry : entries.subspan(next_entry, length)) {
      const std::uint32_t slot = low(entry);
      require(slot < slot_ids.size(), "a timeline entry");
      timeline.push_back(entry);
      if (kind == kSecondary) timeline.push_back(secondary_word(slot));
      hold(slot);
      if (config_.reference) continue;
      const SlotGroup& group = slots(slot);
      const bool secondary = (state(slot) & (kRetweet | kReply)) != 0;
      const bool fits = kind == kVideo ? (group.fields[in(slot)] & kInVideo) != 0 : secondary == (kind == kSecondary);
      const std::uint8_t mark = kind == kVideo ? 2 : 1;
      require((state(slot) & kAlive) != 0 && group.author[in(slot)] == dense && fits && high(entry) >= last &&
                  high(entry) == group.created[in(slot)] && (listed[slot] & mark) == 0,
              "a timeline entry");
      listed[slot] |= mark;
      last = high(entry);
    }
    next_entry += length;
    rebuild(dense, kind, timeline);
    watch_expiry(dense, kind);
  }
  require(next_entry == entries.size(), "timeline entries left over");
  for (std::uint32_t slot = 0; slot < listed.size(); ++slot)
    require((state(slot) & kAlive) == 0 || listed[slot] == ((slots(slot).fields[in(slot)] & kInVideo) != 0 ? 3 : 1),
            "a post in no timeline");

  for (const std::uint64_t tombstone : tombstones) {
    const std::uint32_t slot = low(tombstone);
    require(
        !config_.reference && slot < slot_ids.size() && (states[slot] & kDeleted) != 0 && (state(slot) & kDeleted) == 0,
        "a tombstone");
    bury(slot);
    tombstone_wheel_.add(high(tombstone), {slot, high(tombstone)});
  }
  require(config_.reference || tombstones_.load() == static_cast<std::uint64_t>(std::count_if(
                                                         states.begin(), states.end(),
                                                         [](std::uint8_t one) { return (one & kDeleted) != 0; })),
          "a deleted post without a tombstone");
  // Left over from what was cleaned away in saving.
  for (std::uint32_t slot = 0; slot < slot_ids.size(); ++slot) free_if_unused(slot);
  for (std::uint32_t dense = 0; dense < author_ids.size(); ++dense) {
    hold_author(dense);
    drop_author(dense);
  }
  finish_write();
  return {position.begin(), position.end()};
}

}  // namespace xfast::thunder
