// Lookups (THUNDER §3): newest posts of the followees, without a lock and without waiting.
#include <algorithm>

#include "thunder/query_parts.h"
#include "thunder/store.h"

namespace xfast::thunder {
namespace {

constexpr std::size_t kAhead = 16;  // followees between a prefetch and its use

// Where the walk along one timeline stands.
struct Cursor {
  std::uint32_t chunk;  // 0 = at its end
  std::uint32_t dense;
  std::uint32_t taken = 0, scanned = 0;
  std::uint16_t next;  // age bucket of the next entry
  std::uint16_t position = 0;
  bool entered = false;  // `position` is known
  std::uint8_t kind;
};

}  // namespace

struct PostStore::Scratch {
  IdSet excluded;
  std::vector<std::uint32_t> followees;  // dense, in request order
  std::vector<std::uint64_t> followed;   // bitset over dense authors
  std::vector<Cursor> cursors;
  std::vector<std::uint32_t> active, due;  // cursors not at their end; those to walk on now
  std::vector<Candidate> candidates;
  std::vector<Chosen> chosen;
  std::vector<std::uint32_t> with_references;
  std::array<std::uint32_t, kBuckets> histogram, heads;
};

class PostStore::Reader {
 public:
  Reader(const PostStore& store, const Query& query, Scratch& scratch, PostTable& out)
      : store_(store),
        query_(query),
        scratch_(scratch),
        out_(out),
        restricted_(store.restricted_accounts_ != 0),
        replacements_(store.replacements_.load(std::memory_order_acquire)) {}

  void run() {
    if (store_.config_.timeout_ms != 0) start_ = elapsed();
    excludes_ = !query_.exclude.empty();
    if (excludes_) scratch_.excluded.assign(query_.exclude);
    resolve_followees();
    const FlatIndex::Table& authors = store_.author_index_.table();
    viewer_ = FlatIndex::find(authors, query_.viewer, store_.author_key());
    limit_ = query_.max_results != 0 ? query_.max_results
             : query_.video          ? store_.config_.max_video_results
                                     : store_.config_.max_results;
    scratch_.candidates.clear();
    if (store_.config_.reference) {
      gather_reference();
    } else {
      gather_fixed();
    }
    for (const std::uint32_t dense : scratch_.followees)
      if (dense != kNone) scratch_.followed[dense >> 6] = 0;
    order();
    emit();
  }

 private:
  // -- the request in dense numbers

  void resolve_followees() {
    const auto ids = query_.following;
    const FlatIndex::Table& authors = store_.author_index_.table();
    scratch_.followees.clear();
    scratch_.followed.resize(std::max<std::size_t>(scratch_.followed.size(), store_.authors_.limit() / 64 + 1));
    const bool once = !store_.config_.reference;
    for (std::size_t i = 0; i < std::min(kAhead, ids.size()); ++i) FlatIndex::prefetch(authors, ids[i]);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i + kAhead < ids.size()) FlatIndex::prefetch(authors, ids[i + kAhead]);
      if (i + kAhead / 2 < ids.size())
        prefetch_first(authors, ids[i + kAhead / 2],
                       [&](std::uint32_t dense) { __builtin_prefetch(&store_.author(dense)); });
      const std::uint32_t dense = FlatIndex::find(authors, ids[i], store_.author_key());
      // An author that came after this query began to read has nothing in it.
      if (dense == FlatIndex::kMissing || (dense >> 6) >= scratch_.followed.size()) {
        if (!once) scratch_.followees.push_back(kNone);
        continue;
      }
      std::uint64_t& word = scratch_.followed[dense >> 6];
      const std::uint64_t bit = std::uint64_t{1} << (dense & 63);
      if (once && (word & bit) != 0) continue;
      word |= bit;
      scratch_.followees.push_back(dense);
    }
  }

  template <class Found>
  static void prefetch_first(const FlatIndex::Table& table, std::int64_t key, Found&& found) {
    const std::uint32_t value = table.cell[table.home(key)].load(std::memory_order_acquire);
    if (value < FlatIndex::kErased) found(value);
  }

  [[nodiscard]] bool followed(std::uint32_t dense) const {
    return dense != kNone && (dense >> 6) < scratch_.followed.size() &&
           (scratch_.followed[dense >> 6] >> (dense & 63) & 1) != 0;
  }

  // -- time

  [[nodiscard]] double elapsed() const {
    if (query_.elapsed_ms) return query_.elapsed_ms();
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(since).count();
  }

  // Asked before each followee; the start is the query's, so a stage that timed out leaves the next one empty.
  bool out_of_time() {
    if (store_.config_.timeout_ms == 0) return false;
    if (elapsed() - start_ < store_.config_.timeout_ms) return false;
    out_.timed_out = true;
    return true;
  }

  // -- the rules

  [[nodiscard]] bool may_show_author(std::uint32_t dense) const {
    if (dense == kNone) return true;
    const AccountState state = store_.author(dense).state.load(std::memory_order_acquire);
    if (state == AccountState::active) return true;
    return state == AccountState::is_protected && (dense == viewer_ || followed(dense));
  }

  struct Record {
    std::uint32_t parent = kNone, parent_user = kNone, source = kNone, source_user = kNone, conversation = kNone;
    std::uint8_t fields = 0;
  };

  [[nodiscard]] Record record(std::uint32_t slot) const {
    const SlotGroup& group = store_.slots(slot);
    Record out;
    out.fields = group.fields[in(slot)];
    if (group.references[in(slot)] == 0) return out;
    const std::uint32_t* at = store_.reference_words(group.references[in(slot)]);
    if ((out.fields & kHasParent) != 0) out.parent = *at++;
    if ((out.fields & kHasParentUser) != 0) out.parent_user = *at++;
    if ((out.fields & kHasSource) != 0) out.source = *at++;
    if ((out.fields & kHasSourceUser) != 0) out.source_user = *at++;
    if ((out.fields & kConversationMask) == kConversationStored) out.conversation = *at;
    return out;
  }

  // The root of the conversation as a slot, or kNone.
  static std::uint32_t conversation_of(std::uint32_t slot, const Record& record) {
    switch (record.fields & kConversationMask) {
      case kConversationSelf:
        return slot;
      case kConversationParent:
        return record.parent;
      default:
        return record.conversation;
    }
  }

  // May this reply be shown below its parent?
  [[nodiscard]] bool reply_allowed(std::uint32_t slot, std::uint32_t parent, std::uint32_t parent_user) const {
    parent = store_.current(parent);
    const std::uint8_t state = store_.state(parent);
    if ((state & kAlive) == 0) return false;
    if (restricted_ && !may_show_author(store_.slots(parent).author[in(parent)])) return false;
    if ((state & (kRetweet | kReply)) == 0) return true;
    if (!followed(parent_user)) return false;
    const Record own = record(slot);
    const std::uint32_t root = conversation_of(slot, own);
    const std::uint32_t above = record(parent).parent;
    if (root == kNone || above == kNone) return false;
    return root == above || store_.post_id(root) == store_.post_id(above);
  }

  [[nodiscard]] bool accepts(std::uint32_t slot, std::uint8_t state, std::size_t kind, std::uint64_t extra) const {
    std::uint32_t user = high(extra), parent = low(extra);
    if (kind == kOriginal) return true;
    if (kind == kVideo) {
      if ((state & kRetweet) == 0) return true;
      user = record(slot).source_user;
    }
    if ((state & kRetweet) != 0) {
      if (user != kNone && user == viewer_) return false;
      if (restricted_ && !may_show_author(user)) return false;
      if (kind == kVideo || parent == kNone) return true;
      return reply_allowed(slot, parent, record(slot).parent_user);
    }
    return parent == kNone || reply_allowed(slot, parent, user);
  }

  [[nodiscard]] std::uint32_t cap(std::size_t kind) const {
    const Config& config = store_.config_;
    return kind == kOriginal ? config.max_original : kind == kSecondary ? config.max_secondary : config.max_video;
  }

  // -- the release, step by step: request order, arrival order, dangling references and all

  void gather_reference() {
    if (query_.video) {
      reference_stage(kVideo);
    } else {
      reference_stage(kOriginal);
      reference_stage(kSecondary);
    }
  }

  void reference_stage(std::size_t kind) {
    for (const std::uint32_t dense : scratch_.followees) {
      if (out_of_time()) return;
      if (dense == kNone) continue;
      const Author& owner = store_.author(dense);
      if (restricted_ && hidden(owner.state.load(std::memory_order_acquire))) continue;
      out_.eligible += owner.length[kind].load(std::memory_order_relaxed);
      std::uint32_t taken = 0, scanned = 0;
      for (std::uint32_t handle = low(owner.head[kind].load(std::memory_order_acquire)); handle != 0;) {
        const Chunk& chunk = store_.chunk(handle);
        const std::uint16_t begin = chunk.begin.load(std::memory_order_relaxed);
        for (std::uint16_t at = chunk.end.load(std::memory_order_acquire); at > begin; --at) {
          const std::uint32_t slot = store_.current(low(*chunk.entry(at - 1)));
          if (excludes_ && scratch_.excluded.contains(store_.post_id(slot))) continue;
          if (taken == cap(kind) || scanned == store_.config_.max_scan) break;
          ++scanned;
          const std::uint8_t state = store_.state(slot);
          if ((state & kAlive) == 0) {
            out_.deleted_skipped += (state & kDeleted) != 0 ? 1 : 0;
            continue;
          }
          // The record counts, not the entry: it may have been overwritten since.
          const Record now = record(slot);
          const std::uint32_t user = (state & kRetweet) != 0 ? now.source_user : now.parent_user;
          const std::uint32_t author = store_.slots(slot).author[in(slot)];
          if (restricted_ && author != dense && !may_show_author(author)) continue;
          if (!accepts_record(slot, state, kind, user, now)) continue;
          const std::uint32_t created = store_.slots(slot).created[in(slot)];
          scratch_.candidates.push_back({created, slot, 0, author});
          ++taken;
        }
        if (taken == cap(kind) || scanned == store_.config_.max_scan) break;
        handle = chunk.older.load(std::memory_order_acquire);
      }
    }
  }

  [[nodiscard]] bool accepts_record(std::uint32_t slot, std::uint8_t state, std::size_t kind, std::uint32_t user,
                                    const Record& record) const {
    if ((state & kRetweet) != 0) {
      if (user != kNone && user == viewer_) return false;
      if (restricted_ && !may_show_author(user)) return false;
    }
    return kind != kSecondary || record.parent == kNone || reply_allowed(slot, record.parent, record.parent_user);
  }

  // -- the fast way, for timelines in time order

  void gather_fixed() {
    const Config& config = store_.config_;
    cutoff_ = query_.now > config.retention ? query_.now - config.retention : 0;
    scratch_.histogram.fill(0);
    scratch_.heads.fill(0);
    threshold_ = kBuckets - 1;
    kept_ = 0;
    open_cursors();
    if (config.timeout_ms == 0) {
      walk_by_age();
      return;
    }
    // Whoever comes first in the request is served first when time runs out.
    for (Cursor& cursor : scratch_.cursors) {
      if (out_of_time()) return;
      if (cursor.next <= threshold_) walk(cursor, kBuckets);
    }
  }

  void open_cursors() {
    const Config& config = store_.config_;
    scratch_.cursors.clear();
    for (const std::size_t kind : {kVideo, kOriginal, kSecondary}) {
      if ((kind == kVideo) != query_.video || cap(kind) == 0 || config.max_scan == 0) continue;
      for (const std::uint32_t dense : scratch_.followees) {
        const Author& owner = store_.author(dense);
        const std::uint64_t head = owner.head[kind].load(std::memory_order_acquire);
        if (head == 0 || high(head) < cutoff_) continue;
        if (restricted_ && hidden(owner.state.load(std::memory_order_acquire))) continue;
        out_.eligible += owner.length[kind].load(std::memory_order_relaxed);
        const std::uint32_t age = bucket(high(head));
        ++scratch_.heads[age];
        scratch_.cursors.push_back({.chunk = low(head),
                                    .dense = dense,
                                    .next = static_cast<std::uint16_t>(age),
                                    .kind = static_cast<std::uint8_t>(kind)});
      }
    }
  }

  // Take the newest minutes of all timelines, then older ones, until there are enough: of a timeline whose newest post
  // is too old nothing is touched but the author's line, which has its time. The steps grow as what is missing
  // suggests.
  void walk_by_age() {
    auto& active = scratch_.active;
    active.resize(scratch_.cursors.size());
    for (std::uint32_t i = 0; i < active.size(); ++i) active[i] = i;
    // Begin where half of an answer, or half of the timelines, has its newest post.
    const std::size_t wanted = std::min<std::size_t>(limit_, active.size()) / 2;
    std::uint32_t bound = 0;
    for (std::size_t seen = scratch_.heads[0]; seen < wanted;) seen += scratch_.heads[++bound];
    while (!active.empty()) {
      auto& due = scratch_.due;
      due.clear();
      std::size_t waiting = 0;
      for (const std::uint32_t i : active)
        if (scratch_.cursors[i].next <= bound) {
          due.push_back(i);
        } else {
          active[waiting++] = i;
        }
      active.resize(waiting);
      walk_due(bound);
      if (kept_ >= limit_) return;
      for (const std::uint32_t i : due)
        if (scratch_.cursors[i].chunk != 0) active.push_back(i);
      // As many posts per second further back as so far, but between 9 % and 4 times the age.
      const double reach = std::clamp(1.1 * limit_ / (kept_ + 1.0), 1.09, 4.0);
      bound = std::max(
          bound + 4,
          age_bucket(static_cast<std::uint32_t>(std::min(oldest_age(bound) * reach + 1.0, static_cast<double>(~0u)))));
    }
  }

  void walk_due(std::uint32_t bound) {
    constexpr std::size_t kChunkAhead = 12, kEntryAhead = 8, kStateAhead = 4;
    const auto& due = scratch_.due;
    const std::size_t count = due.size();
    for (std::size_t i = 0; i < count + kChunkAhead; ++i) {
      if (i < count) __builtin_prefetch(&store_.chunk(scratch_.cursors[due[i]].chunk));
      if (const std::size_t at = i - (kChunkAhead - kEntryAhead); at < count) {
        Cursor& cursor = scratch_.cursors[due[at]];
        const Chunk& chunk = store_.chunk(cursor.chunk);
        if (!cursor.entered) {
          cursor.position = chunk.end.load(std::memory_order_acquire);
          cursor.entered = true;
        }
        if (cursor.position != 0) __builtin_prefetch(chunk.entry(cursor.position - 1));
      }
      if (const std::size_t at = i - (kChunkAhead - kStateAhead); at < count) {
        const Cursor& cursor = scratch_.cursors[due[at]];
        if (cursor.position != 0) {
          const std::uint64_t* entry = store_.chunk(cursor.chunk).entry(cursor.position - 1);
          prefetch_post(low(entry[0]));
          if (cursor.kind == kSecondary && low(entry[1]) != kNone) prefetch_state(low(entry[1]));
        }
      }
      if (const std::size_t at = i - kChunkAhead; at < count) {
        Cursor& cursor = scratch_.cursors[due[at]];
        if (cursor.next <= threshold_) {
          walk(cursor, bound);
        } else {
          cursor.chunk = 0;
        }
      }
    }
  }

  void prefetch_state(std::uint32_t slot) const { __builtin_prefetch(&store_.slots(slot).state[in(slot)]); }
  void prefetch_post(std::uint32_t slot) const {
    prefetch_state(slot);
    __builtin_prefetch(&store_.slots(slot).id[in(slot)]);
  }

  [[nodiscard]] std::uint32_t bucket(std::uint32_t created) const {
    return age_bucket(query_.now > created ? query_.now - created : 0);
  }

  // Take entries until one is older than `bound` or than the K-th newest so far.
  void walk(Cursor& cursor, std::uint32_t bound) {
    const std::size_t kind = cursor.kind;
    const std::uint32_t most = cap(kind), scan = store_.config_.max_scan;
    const double reach = oldest_age(std::min(bound, threshold_));
    const std::uint32_t floor = query_.now > reach ? query_.now - static_cast<std::uint32_t>(reach) : 0;
    while (cursor.chunk != 0) {
      const Chunk& chunk = store_.chunk(cursor.chunk);
      if (!cursor.entered) {
        cursor.position = chunk.end.load(std::memory_order_acquire);
        cursor.entered = true;
      }
      const std::uint16_t begin = chunk.begin.load(std::memory_order_relaxed);
      while (cursor.position > begin) {
        const std::uint64_t* entry = chunk.entry(cursor.position - 1);
        const std::uint32_t created = high(entry[0]), slot = low(entry[0]);
        const std::uint32_t age = bucket(created);
        if (created < cutoff_ || age > threshold_) {
          cursor.chunk = 0;
          return;
        }
        if (age > bound) {
          cursor.next = static_cast<std::uint16_t>(age);
          return;
        }
        --cursor.position;
        if (cursor.position > begin + 1 && high(*chunk.entry(cursor.position - 2)) >= floor)
          prefetch_post(low(*chunk.entry(cursor.position - 2)));
        const std::uint8_t state = store_.state(slot);
        if ((state & kAlive) == 0) {
          out_.deleted_skipped += (state & kDeleted) != 0 ? 1 : 0;
          continue;
        }
        if (excludes_ && scratch_.excluded.contains(store_.post_id(slot))) continue;
        if (store_.replacements_.load(std::memory_order_acquire) != replacements_ && kept_before(slot)) continue;
        ++cursor.scanned;
        if (accepts(slot, state, kind, kind == kSecondary ? entry[1] : 0)) {
          keep({created, slot, age, cursor.dense});
          ++cursor.taken;
        }
        if (cursor.taken == most || cursor.scanned == scan) {
          cursor.chunk = 0;
          return;
        }
      }
      cursor.chunk = chunk.older.load(std::memory_order_acquire);
      cursor.entered = false;
    }
  }

  // A post that is replaced while this lookup runs can be met as it was and then as it is: the first one stays. A slot
  // whose post died is not reused while this lookup runs, so whatever brings a post back goes by the mark.
  [[nodiscard]] bool kept_before(std::uint32_t slot) const {
    if ((store_.slots(slot).fields[in(slot)] & kReplaces) == 0) return false;
    const std::int64_t id = store_.post_id(slot);
    return std::any_of(scratch_.candidates.begin(), scratch_.candidates.end(),
                       [&](const Candidate& candidate) { return store_.post_id(candidate.slot) == id; });
  }

  // Remember a candidate and raise the bar when more than enough newer ones are known.
  void keep(const Candidate& candidate) {
    scratch_.candidates.push_back(candidate);
    // What the answer will need of it.
    const SlotGroup& group = store_.slots(candidate.slot);
    __builtin_prefetch(&group.fields[in(candidate.slot)]);
    __builtin_prefetch(&group.references[in(candidate.slot)]);
    ++scratch_.histogram[candidate.bucket];
    ++kept_;
    while (kept_ - scratch_.histogram[threshold_] >= limit_) kept_ -= scratch_.histogram[threshold_--];
  }

  // -- the answer

  // The first `limit_` of all candidates in order.
  void order() {
    auto& chosen = scratch_.chosen;
    const auto choose = [&](const Candidate& post) {
      return Chosen{static_cast<std::uint64_t>(store_.post_id(post.slot)), post.created, post.slot, post.dense};
    };
    if (store_.config_.reference) {
      chosen.clear();
      for (const Candidate& candidate : scratch_.candidates) chosen.push_back(choose(candidate));
      std::sort(chosen.begin(), chosen.end());
    } else {
      // By age bucket first, which is a matter of counting; then within each.
      std::uint32_t total = 0;
      for (std::uint32_t age = 0; age <= threshold_; ++age) {
        const std::uint32_t size = scratch_.histogram[age];
        scratch_.histogram[age] = total;
        total += size;
      }
      chosen.resize(total);
      for (const Candidate& candidate : scratch_.candidates)
        if (candidate.bucket <= threshold_) chosen[scratch_.histogram[candidate.bucket]++] = choose(candidate);
      for (std::uint32_t age = 0, from = 0; age <= threshold_ && from < limit_; ++age) {
        std::uint32_t to = scratch_.histogram[age];
        if (to > limit_ && limit_ > from) {
          // The last bucket that counts; in a busy second it can hold many more than are still wanted.
          std::nth_element(chosen.begin() + from, chosen.begin() + limit_ - 1, chosen.begin() + to);
          to = limit_;
        }
        if (to - from > 1) sort_few(chosen.data() + from, chosen.data() + to);
        from = to;
      }
    }
    if (chosen.size() > limit_) chosen.resize(limit_);
  }

  void emit() {
    const auto& chosen = scratch_.chosen;
    const std::size_t count = chosen.size();
    out_.resize(count);
    std::int64_t *ids = out_.ids(PostTable::post_id), *authors = out_.ids(PostTable::author_id),
                 *times = out_.ids(PostTable::created_at), *conversations = out_.ids(PostTable::conversation);
    std::uint8_t *retweets = out_.flags(PostTable::is_retweet), *replies = out_.flags(PostTable::is_reply),
                 *videos = out_.flags(PostTable::has_video);
    for (const auto column :
         {PostTable::parent_id, PostTable::parent_user, PostTable::source_id, PostTable::source_user})
      std::fill_n(out_.ids(column), count, 0);
    auto& rows = scratch_.with_references;
    rows.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const Chosen& post = chosen[i];
      const SlotGroup& group = store_.slots(post.slot);
      const std::uint8_t state = group.state[in(post.slot)].load(std::memory_order_relaxed);
      ids[i] = static_cast<std::int64_t>(post.id);
      authors[i] = store_.author(post.dense).id;
      times[i] = post.created;
      retweets[i] = (state & kRetweet) != 0;
      replies[i] = (state & kReply) != 0;
      videos[i] = (state & kHasVideo) != 0;
      conversations[i] = (group.fields[in(post.slot)] & kConversationMask) == kConversationSelf ? ids[i] : 0;
      if (const std::uint32_t handle = group.references[in(post.slot)]; handle != 0) {
        __builtin_prefetch(store_.reference_words(handle));
        rows.push_back(static_cast<std::uint32_t>(i));
      }
    }
    constexpr std::size_t kTargetsAhead = 6;
    for (std::size_t i = 0; i < rows.size() + kTargetsAhead; ++i) {
      if (i < rows.size()) {
        const Record ahead = record(chosen[rows[i]].slot);
        for (const std::uint32_t slot : {ahead.parent, ahead.source, ahead.conversation})
          if (slot != kNone) __builtin_prefetch(&store_.slots(slot).id[in(slot)]);
        for (const std::uint32_t dense : {ahead.parent_user, ahead.source_user})
          if (dense != kNone) __builtin_prefetch(&store_.author(dense).id);
      }
      const std::size_t done = i - kTargetsAhead;
      if (done >= rows.size()) continue;
      const std::uint32_t row = rows[done];
      const Record own = record(chosen[row].slot);
      out_.ids(PostTable::parent_id)[row] = post_or_zero(own.parent);
      out_.ids(PostTable::parent_user)[row] = user_or_zero(own.parent_user);
      out_.ids(PostTable::source_id)[row] = post_or_zero(own.source);
      out_.ids(PostTable::source_user)[row] = user_or_zero(own.source_user);
      conversations[row] = post_or_zero(conversation_of(chosen[row].slot, own));
    }
  }

  [[nodiscard]] std::int64_t post_or_zero(std::uint32_t slot) const { return slot == kNone ? 0 : store_.post_id(slot); }
  [[nodiscard]] std::int64_t user_or_zero(std::uint32_t dense) const {
    return dense == kNone ? 0 : store_.author(dense).id;
  }

  const PostStore& store_;
  const Query& query_;
  Scratch& scratch_;
  PostTable& out_;
  const bool restricted_;
  const std::uint64_t replacements_;  // when the lookup began
  bool excludes_ = false;
  std::uint32_t viewer_ = kNone, limit_ = 0, cutoff_ = 0;
  std::uint32_t threshold_ = 0;  // no older age bucket can matter
  std::uint32_t kept_ = 0;       // candidates up to that bucket
  double start_ = 0;
};

void PostStore::query(const Query& query, PostTable& out) const {
  // One scratch per thread, lent out: a clock that asks the store again gets another, and one that throws leaves none.
  thread_local std::unique_ptr<Scratch> idle;
  std::unique_ptr<Scratch> scratch = idle ? std::move(idle) : std::make_unique<Scratch>();
  {
    const auto guard = epoch_.enter();
    Reader(*this, query, *scratch, out).run();
  }
  idle = std::move(scratch);
}

}  // namespace xfast::thunder
