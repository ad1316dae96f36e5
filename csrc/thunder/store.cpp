#include "thunder/store.h"

#include <algorithm>

namespace xfast::thunder {
namespace {

constexpr std::size_t kSlotGroups = 65'536;     // 268 million posts
constexpr std::size_t kAuthorGroups = 262'144;  // 268 million authors
constexpr std::size_t kPrefetchDistance = 12;   // rows ahead; measured flat between 8 and 24
constexpr std::size_t kGarbageTolerated = 512;  // retired things before a batch stops to reclaim
constexpr std::size_t kRowsKept = 4096;         // row numbers of a batch that are kept for the next one
constexpr std::uint16_t kDeadTolerated = 8;     // entries of gone posts that a timeline keeps in any case
constexpr std::uint16_t kDeadLimit = 256;       // and the most that a reader may have to skip in a long one

std::int64_t value(const std::int64_t* column, std::size_t row) { return column == nullptr ? 0 : column[row]; }
bool flag(const std::uint8_t* column, std::size_t row) { return column != nullptr && column[row] != 0; }

std::uint32_t to_seconds(std::int64_t time) {
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(time, 0, ~0u));
}

std::uint8_t flags_of(const PostColumns& posts, std::size_t row) {
  return static_cast<std::uint8_t>((flag(posts.is_retweet, row) ? kRetweet : 0) |
                                   (flag(posts.is_reply, row) ? kReply : 0) |
                                   (flag(posts.has_video, row) ? kHasVideo : 0));
}

}  // namespace

PostStore::PostStore(const Config& config)
    : config_(config),
      slots_(kSlotGroups, "posts"),
      authors_(kAuthorGroups, "authors"),
      chunks_("timelines"),
      references_("references") {}

PostStore::~PostStore() {
  // No reader is left; only the tables are owned by nobody else.
  for (const auto* garbage : {&open_garbage_, &closed_garbage_})
    for (const std::uint64_t item : *garbage) {
      const auto kind = static_cast<Garbage>(item >> 56);
      if (kind == Garbage::index_table || kind == Garbage::forwarding_table) discard(item);
    }
}

// -- numbers and who holds them

std::uint32_t PostStore::new_slot(std::int64_t id) {
  const std::uint32_t slot = slots_.allocate();
  SlotGroup& group = slots(slot);
  group.id[in(slot)] = id;
  group.references[in(slot)] = 0;
  group.holders[in(slot)] = 0;
  group.fields[in(slot)] = 0;
  group.state[in(slot)].store(0, std::memory_order_release);
  return slot;
}

std::uint32_t PostStore::intern_post(std::int64_t id) {
  std::uint32_t slot = post_index_.find(id, post_key());
  if (slot != FlatIndex::kMissing) return slot;
  slot = new_slot(id);
  retire(post_index_.insert(id, slot, post_key()));
  return slot;
}

std::uint32_t PostStore::intern_author(std::int64_t id) {
  std::uint32_t dense = author_index_.find(id, author_key());
  if (dense != FlatIndex::kMissing) return dense;
  dense = authors_.allocate();
  Author& added = author(dense);
  added.id = id;
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    added.head[kind].store(0, std::memory_order_relaxed);
    added.length[kind].store(0, std::memory_order_relaxed);
    added.dead[kind] = added.wheel[kind] = 0;
  }
  added.holders = 0;
  added.state.store(AccountState::active, std::memory_order_relaxed);
  retire(author_index_.insert(id, dense, author_key()));
  return dense;
}

void PostStore::drop(std::uint32_t slot) {
  if (--slots(slot).holders[in(slot)] == 0) free_if_unused(slot);
}

void PostStore::free_if_unused(std::uint32_t slot) {
  SlotGroup& group = slots(slot);
  const std::uint8_t now = state(slot);
  if (group.holders[in(slot)] != 0 || (now & (kAlive | kRecord)) != 0) return;
  group.holders[in(slot)] = kNone;  // freed once
  if ((now & kMoved) != 0) {
    drop(forwarding_.remove(slot));
  } else {
    post_index_.erase(group.id[in(slot)], slot);
  }
  retire(Garbage::slot, slot);
}

void PostStore::drop_author(std::uint32_t dense) {
  Author& owner = author(dense);
  if (--owner.holders != 0) return;
  owner.holders = kNone;
  author_index_.erase(owner.id, dense);
  retire(Garbage::author, dense);
}

// -- creating

std::size_t PostStore::insert(const PostColumns& posts, std::uint32_t now) {
  const std::lock_guard lock(writer_);
  auto& rows = rows_buffer_;
  rows.clear();
  bool sorted = true;
  std::int64_t last = 0;
  for (std::size_t row = 0; row < posts.count; ++row) {
    const std::int64_t created = posts.created_at[row];
    if (created < 0 || created >= now || now - created > config_.retention) continue;
    sorted = sorted && created >= last;
    last = created;
    rows.push_back(static_cast<std::uint32_t>(row));
  }
  if (!sorted)
    std::stable_sort(rows.begin(), rows.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return posts.created_at[a] < posts.created_at[b]; });
  std::size_t added = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i + kPrefetchDistance < rows.size()) {
      const std::uint32_t ahead = rows[i + kPrefetchDistance];
      FlatIndex::prefetch(post_index_.table(), posts.post_id[ahead]);
      FlatIndex::prefetch(author_index_.table(), posts.author_id[ahead]);
      if (const auto id = value(posts.parent_id, ahead)) FlatIndex::prefetch(post_index_.table(), id);
      if (const auto id = value(posts.source_id, ahead)) FlatIndex::prefetch(post_index_.table(), id);
      if (const auto id = value(posts.conversation, ahead)) FlatIndex::prefetch(post_index_.table(), id);
    }
    added += apply(posts, rows[i]) ? 1 : 0;
    // Timelines grow by copying; a long batch reuses its own leavings.
    if (open_garbage_.size() >= kGarbageTolerated) reclaim();
  }
  if (rows.capacity() > kRowsKept) rows = std::vector<std::uint32_t>();
  finish_write();
  return added;
}

// True if the post is listed now and was not before.
bool PostStore::apply(const PostColumns& posts, std::size_t row) {
  const std::int64_t id = posts.post_id[row];
  if (restricted_accounts_.load(std::memory_order_relaxed) != 0) {
    const std::uint32_t dense = author_index_.find(posts.author_id[row], author_key());
    if (dense != FlatIndex::kMissing && author(dense).state.load(std::memory_order_relaxed) == AccountState::erased)
      return false;
  }
  const std::uint32_t slot = post_index_.find(id, post_key());
  if (slot == FlatIndex::kMissing) {
    const std::uint32_t added = new_slot(id);
    retire(post_index_.insert(id, added, post_key()));
    write_record(added, posts, row);
    list(added);
    return true;
  }
  const std::uint8_t before = state(slot);
  if ((before & kDeleted) != 0) return false;
  if ((before & kBorn) == 0) {
    write_record(slot, posts, row);
    list(slot);
    return true;
  }
  const bool alive = (before & kAlive) != 0;
  if (alive && same_record(slot, posts, row)) return false;
  // Readers may still look at the old record or find its number in a timeline: the new one gets a slot of its own.
  const std::uint32_t replacement = new_slot(id);
  write_record(replacement, posts, row, kReplaces);
  hold(slot);
  move(slot, replacement);
  // After the old one is marked and before the new one is listed: a lookup that meets both sees the count change.
  replacements_.fetch_add(1, std::memory_order_release);
  if (alive && !config_.reference) forget_in_timelines(slot);
  drop(slot);
  // The release replaces the record where it stands; put right, the post is listed as what it is now.
  if (!alive || !config_.reference) list(replacement);
  return !alive;
}

void PostStore::write_record(std::uint32_t slot, const PostColumns& posts, std::size_t row, std::uint8_t fields) {
  std::array<std::uint32_t, 5> words{};
  std::uint32_t used = 0;
  const auto post = [&](std::int64_t id) {
    const std::uint32_t target = intern_post(id);
    hold(target);
    words[used++] = target;
  };
  const auto user = [&](std::int64_t id) {
    const std::uint32_t dense = intern_author(id);
    hold_author(dense);
    words[used++] = dense;
  };
  const std::int64_t id = posts.post_id[row], parent = value(posts.parent_id, row);
  if (parent != 0) fields |= kHasParent, post(parent);
  if (const auto target = value(posts.parent_user, row)) fields |= kHasParentUser, user(target);
  if (const auto target = value(posts.source_id, row)) fields |= kHasSource, post(target);
  if (const auto target = value(posts.source_user, row)) fields |= kHasSourceUser, user(target);
  const std::int64_t conversation = value(posts.conversation, row);
  if (conversation == 0) {
    fields |= kConversationNone;
  } else if (conversation == id) {
    fields |= kConversationSelf;
  } else if (conversation == parent) {
    fields |= kConversationParent;
  } else {
    fields |= kConversationStored, post(conversation);
  }
  const std::uint8_t flags = flags_of(posts, row);
  bool video = (flags & kHasVideo) != 0;
  if (!video && (flags & kRetweet) != 0 && (fields & kHasSource) != 0) {
    const std::uint32_t position = ((fields & kHasParent) != 0 ? 1 : 0) + ((fields & kHasParentUser) != 0 ? 1 : 0);
    const std::uint8_t source = state(current(words[position]));
    video = (source & (kAlive | kHasVideo | kReply)) == (kAlive | kHasVideo);
  }
  if (video && (flags & kReply) == 0) fields |= kInVideo;

  const std::uint32_t dense = intern_author(posts.author_id[row]);
  hold_author(dense);
  SlotGroup& group = slots(slot);
  group.author[in(slot)] = dense;
  group.created[in(slot)] = to_seconds(posts.created_at[row]);
  group.fields[in(slot)] = fields;
  if (used != 0) {
    const std::uint32_t handle = references_.allocate(used);
    std::copy_n(words.data(), used, reinterpret_cast<std::uint32_t*>(references_.at(handle)));
    group.references[in(slot)] = handle;
  }
  posts_.fetch_add(1, std::memory_order_relaxed);
  group.state[in(slot)].store(static_cast<std::uint8_t>(kBorn | kAlive | kRecord | flags), std::memory_order_release);
}

// What a secondary timeline keeps beside the post: the author replied to or reposted, and the parent.
std::uint64_t PostStore::secondary_word(std::uint32_t slot) const {
  const SlotGroup& group = slots(slot);
  if (group.references[in(slot)] == 0) return pack(kNone, kNone);
  const std::uint8_t fields = group.fields[in(slot)];
  const std::uint32_t* word = reference_words(group.references[in(slot)]);
  const std::uint32_t parent = (fields & kHasParent) != 0 ? *word++ : kNone;
  const std::uint32_t parent_user = (fields & kHasParentUser) != 0 ? *word++ : kNone;
  if ((fields & kHasSource) != 0) ++word;
  const std::uint32_t source_user = (fields & kHasSourceUser) != 0 ? *word : kNone;
  return pack((state(slot) & kRetweet) != 0 ? source_user : parent_user, parent);
}

// Put a post that was just written into the timelines of its author.
void PostStore::list(std::uint32_t slot) {
  const SlotGroup& group = slots(slot);
  const std::uint8_t fields = group.fields[in(slot)], flags = state(slot);
  const std::uint32_t dense = group.author[in(slot)];
  const bool secondary = (flags & (kRetweet | kReply)) != 0;
  std::array<std::uint64_t, 2> entry = {pack(group.created[in(slot)], slot), 0};
  if (secondary) entry[1] = secondary_word(slot);
  hold(slot);
  push(dense, secondary ? kSecondary : kOriginal, entry.data());
  if ((fields & kInVideo) != 0) {
    hold(slot);
    push(dense, kVideo, entry.data());
  }
}

bool PostStore::same_record(std::uint32_t slot, const PostColumns& posts, std::size_t row) const {
  const SlotGroup& group = slots(slot);
  const std::uint8_t fields = group.fields[in(slot)];
  if (author(group.author[in(slot)]).id != posts.author_id[row] ||
      group.created[in(slot)] != to_seconds(posts.created_at[row]) ||
      (state(slot) & (kRetweet | kReply | kHasVideo)) != flags_of(posts, row))
    return false;
  const std::uint32_t* word = group.references[in(slot)] == 0 ? nullptr : reference_words(group.references[in(slot)]);
  const std::int64_t parent = (fields & kHasParent) != 0 ? post_id(*word++) : 0;
  const std::int64_t parent_user = (fields & kHasParentUser) != 0 ? author(*word++).id : 0;
  const std::int64_t source = (fields & kHasSource) != 0 ? post_id(*word++) : 0;
  const std::int64_t source_user = (fields & kHasSourceUser) != 0 ? author(*word++).id : 0;
  const std::uint8_t kind = fields & kConversationMask;
  const std::int64_t conversation = kind == kConversationNone     ? 0
                                    : kind == kConversationSelf   ? post_id(slot)
                                    : kind == kConversationParent ? parent
                                                                  : post_id(*word);
  return parent == value(posts.parent_id, row) && parent_user == value(posts.parent_user, row) &&
         source == value(posts.source_id, row) && source_user == value(posts.source_user, row) &&
         conversation == value(posts.conversation, row);
}

// From now on `to` stands for the id of `old`; everything that names `old` is led there.
void PostStore::move(std::uint32_t old, std::uint32_t to) {
  post_index_.replace(post_id(old), old, to);
  hold(to);
  auto* table = forwarding_.add(old, to, [&](std::uint32_t) {
    hold(to);
    --slots(old).holders[in(old)];  // the caller holds it too
  });
  retire(table);
  auto& word = slots(old).state[in(old)];
  const std::uint8_t before = word.load(std::memory_order_relaxed);
  word.store(static_cast<std::uint8_t>((before & ~kAlive) | kMoved), std::memory_order_release);
  if ((before & kAlive) != 0) {
    posts_.fetch_sub(1, std::memory_order_relaxed);
    retire(Garbage::record, old);
  }
}

// -- removing

// The post is no longer in the store. What its record refers to is let go after a grace period.
void PostStore::kill(std::uint32_t slot) {
  auto& word = slots(slot).state[in(slot)];
  word.store(static_cast<std::uint8_t>(word.load(std::memory_order_relaxed) & ~kAlive), std::memory_order_release);
  posts_.fetch_sub(1, std::memory_order_relaxed);
  retire(Garbage::record, slot);
}

void PostStore::release_record(std::uint32_t slot) {
  SlotGroup& group = slots(slot);
  const std::uint8_t fields = group.fields[in(slot)];
  auto& word = group.state[in(slot)];
  word.store(static_cast<std::uint8_t>(word.load(std::memory_order_relaxed) & ~kRecord), std::memory_order_relaxed);
  hold(slot);  // its own record may be the last to name it
  if (const std::uint32_t handle = group.references[in(slot)]; handle != 0) {
    const std::uint32_t* at = reference_words(handle);
    if ((fields & kHasParent) != 0) drop(*at++);
    if ((fields & kHasParentUser) != 0) drop_author(*at++);
    if ((fields & kHasSource) != 0) drop(*at++);
    if ((fields & kHasSourceUser) != 0) drop_author(*at++);
    if ((fields & kConversationMask) == kConversationStored) drop(*at);
    references_.release(handle);
    group.references[in(slot)] = 0;
  }
  drop_author(group.author[in(slot)]);
  drop(slot);
}

// The entries of a post that is gone stay until there are too many of them; readers skip them free of charge.
void PostStore::forget_in_timelines(std::uint32_t slot) {
  const SlotGroup& group = slots(slot);
  const std::uint32_t dense = group.author[in(slot)];
  const auto forget = [&](std::size_t kind) {
    Author& owner = author(dense);
    const std::uint16_t dead = ++owner.dead[kind];
    dead_[kind].fetch_add(1, std::memory_order_relaxed);
    const std::uint32_t length = owner.length[kind].load(std::memory_order_relaxed);
    if (dead == length || (dead > kDeadTolerated && (dead >= kDeadLimit || dead * 4u >= length))) compact(dense, kind);
  };
  const std::uint8_t fields = group.fields[in(slot)];
  forget((state(slot) & (kRetweet | kReply)) != 0 ? kSecondary : kOriginal);
  if ((fields & kInVideo) != 0) forget(kVideo);
}

void PostStore::remove(std::span<const std::int64_t> ids, std::span<const std::int64_t> deleted_at) {
  const std::lock_guard lock(writer_);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i + kPrefetchDistance < ids.size()) FlatIndex::prefetch(post_index_.table(), ids[i + kPrefetchDistance]);
    remove_one(ids[i], to_seconds(deleted_at[i]));
  }
  finish_write();
}

void PostStore::bury(std::uint32_t slot) {
  auto& word = slots(slot).state[in(slot)];
  word.store(static_cast<std::uint8_t>(word.load(std::memory_order_relaxed) | kDeleted), std::memory_order_release);
  hold(slot);
  tombstones_.fetch_add(1, std::memory_order_relaxed);
}

void PostStore::lift_tombstone(std::uint32_t slot) {
  auto& word = slots(slot).state[in(slot)];
  word.store(static_cast<std::uint8_t>(word.load(std::memory_order_relaxed) & ~kDeleted), std::memory_order_release);
  tombstones_.fetch_sub(1, std::memory_order_relaxed);
  drop(slot);
}

void PostStore::remove_one(std::int64_t id, std::uint32_t deleted_at) {
  const std::uint32_t slot = intern_post(id);
  const std::uint8_t before = state(slot);
  if ((before & kDeleted) == 0) bury(slot);
  if ((before & kAlive) != 0) {
    kill(slot);
    if (!config_.reference) forget_in_timelines(slot);
  }
  if (config_.reference) {
    // Tombstones age out as posts of a reserved author, one per delete.
    hold(slot);
    const std::array<std::uint64_t, 1> entry = {pack(deleted_at, slot)};
    push(intern_author(config_.tombstone_key), kOriginal, entry.data());
  } else if ((before & kDeleted) == 0) {
    tombstone_wheel_.add(deleted_at, {slot, deleted_at});
  }
}

// -- accounts

void PostStore::set_account_state(std::span<const std::int64_t> users, AccountState wanted) {
  const std::lock_guard lock(writer_);
  for (const std::int64_t user : users) {
    const std::uint32_t dense = intern_author(user);
    hold_author(dense);
    const AccountState before = author(dense).state.exchange(wanted, std::memory_order_acq_rel);
    // Whoever is not active stays known, with or without posts.
    if (before == AccountState::active && wanted != AccountState::active) {
      hold_author(dense);
      restricted_accounts_.fetch_add(1, std::memory_order_acq_rel);
    } else if (before != AccountState::active && wanted == AccountState::active) {
      drop_author(dense);
      restricted_accounts_.fetch_sub(1, std::memory_order_acq_rel);
    }
    if (wanted == AccountState::erased) erase_posts_of(dense);
    drop_author(dense);
  }
  finish_write();
}

void PostStore::erase_posts_of(std::uint32_t dense) {
  // Every slot, not only the timelines: in reference mode a post can stand in another author's.
  std::vector<std::uint32_t> theirs;
  for (std::uint32_t slot = 0; slot < slots_.limit(); ++slot) {
    if (!slots_.present(slot)) {
      slot |= SlotGroup::kSlots - 1;
      continue;
    }
    if ((state(slot) & kAlive) != 0 && slots(slot).author[in(slot)] == dense) theirs.push_back(slot);
  }
  for (const std::uint32_t slot : theirs) {
    kill(slot);
    if (!config_.reference) forget_in_timelines(slot);
  }
}

// -- numbers about the store

AccountState PostStore::account_state(std::int64_t user) const {
  const auto guard = epoch_.enter();
  const std::uint32_t dense = author_index_.find(user, author_key());
  return dense == FlatIndex::kMissing ? AccountState::active : author(dense).state.load(std::memory_order_acquire);
}

Stats PostStore::stats() const {
  const auto listed = [&](std::size_t kind) {
    return entries_[kind].load(std::memory_order_relaxed) - dead_[kind].load(std::memory_order_relaxed);
  };
  return {.users = occupied_[kOriginal].load(std::memory_order_relaxed),
          .posts = posts_.load(std::memory_order_relaxed),
          .original = listed(kOriginal),
          .secondary = listed(kSecondary),
          .video = listed(kVideo),
          .deleted = tombstones_.load(std::memory_order_relaxed)};
}

MemoryParts PostStore::memory() const {
  return {{"posts", slots_.bytes()},
          {"post_index", post_index_.bytes()},
          {"references", references_.bytes()},
          {"timelines", chunks_.bytes()},
          {"authors", authors_.bytes()},
          {"author_index", author_index_.bytes()},
          {"forwarding", forwarding_bytes_.load(std::memory_order_relaxed)},
          {"expiry", expiry_bytes_.load(std::memory_order_relaxed)},
          {"bookkeeping", book_bytes_.load(std::memory_order_relaxed)},
          {"garbage", garbage_bytes_.load(std::memory_order_relaxed)}};
}

}  // namespace xfast::thunder
