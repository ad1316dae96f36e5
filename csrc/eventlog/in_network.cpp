#include "eventlog/in_network.h"

#include <algorithm>
#include <array>

#include "eventlog/post_message.h"

namespace xfast::eventlog {
namespace {

using wire::Bytes;
using wire::Reader;

void append_create(InNetworkColumns& out, const PostMessage& post, std::uint32_t index) {
  append_post(out, post);
  out.create_index.push_back(index);
}

void append_delete(InNetworkColumns& out, std::int64_t id, std::int64_t at, std::uint32_t index) {
  out.deleted_id.push_back(id);
  out.deleted_at.push_back(at);
  out.delete_index.push_back(index);
}

void append_account(InNetworkColumns& out, std::int64_t id, std::uint8_t state, std::uint32_t index) {
  out.account_id.push_back(id);
  out.account_state.push_back(state);
  out.account_index.push_back(index);
}

void append_bad(InNetworkColumns& out, Fault fault, std::size_t index) {
  out.bad_index.push_back(static_cast<std::uint32_t>(index));
  out.bad_fault.push_back(static_cast<std::uint8_t>(fault));
}

void reserve(InNetworkColumns& out, std::size_t count) {
  for (auto* column : {&out.post_id, &out.author_id, &out.created_at, &out.in_reply_to_post_id,
                       &out.in_reply_to_user_id, &out.source_post_id, &out.source_user_id, &out.conversation_id})
    column->reserve(count);
  for (auto* column : {&out.is_retweet, &out.is_reply, &out.has_video}) column->reserve(count);
  out.create_index.reserve(count);
}

// A message of two varint fields, 1 and 2: a delete (post, time) or an account (user, state).
struct VarintPair {
  std::int64_t first = 0, second = 0;
};

Fault read_pair(Bytes bytes, VarintPair& pair) {
  Reader in(bytes);
  while (in.next()) {
    if (in.type != wire::kVarint || in.number > 2) {
      in.skip();
      continue;
    }
    (in.number == 1 ? pair.first : pair.second) = static_cast<std::int64_t>(in.varint());
  }
  return in.fault();
}

void decode_one(Slice message, std::uint32_t index, InNetworkColumns& out) {
  constexpr std::uint32_t kCreate = 1, kDelete = 2, kAccount = 3;
  Reader in(message.data, message.size);
  std::uint32_t variant = 0;
  bool unknown = false;
  PostMessage create;
  VarintPair pair;
  while (in.next()) {
    if (in.type != wire::kBytes || in.number > kAccount) {
      unknown = true;
      in.skip();
      continue;
    }
    const Bytes body = in.bytes();
    if (in.fault() != Fault::none) break;
    if (in.number != variant) {  // the last variant on the wire wins, an earlier one is forgotten
      variant = in.number;
      create = {};
      pair = {};
    }
    const Fault fault = variant == kCreate ? read_post_message(body, create) : read_pair(body, pair);
    if (fault != Fault::none) return append_bad(out, fault, index);
  }
  if (in.fault() != Fault::none) return append_bad(out, in.fault(), index);
  switch (variant) {
    case kCreate:
      create.is_reply |= create.names_parent;
      return append_create(out, create, index);
    case kDelete:
      return append_delete(out, pair.first, pair.second, index);
    case kAccount:
      return append_account(out, pair.first, static_cast<std::uint8_t>(std::clamp<std::int64_t>(pair.second, 0, 255)),
                            index);
    default:
      if (unknown)
        ++out.unknown;
      else
        append_bad(out, Fault::no_variant, index);
  }
}

// --- NetworkEvent
// -----------------------------------------------------------------------------------------------------

// Variant numbers of network_event.proto.
enum Body : std::uint32_t {
  kPost = 10,
  kDeletePost = 11,
  kFirstPair = 12,
  kLastPair = 17,
  kMuteKeyword = 18,
  kUnmuteKeyword = 19,
  kSubscribe = 20,
  kUnsubscribe = 21,
  kLabel = 26,
  kAccountState = 27,
  kProfile = 28
};

constexpr std::int64_t kSnowflakeEpochMs = 1'288'834'974'657;

struct Media {
  std::int32_t kind = 0;
  std::int64_t duration_ms = 0;
};

struct Post {
  std::uint64_t post_id = 0, author_id = 0, parent_id = 0, parent_user_id = 0, source_id = 0, source_user_id = 0,
                conversation_id = 0;
  std::int64_t created_at_ms = 0;
  std::size_t media_count = 0;
  Media first_media;
  bool nullcast = false;
};

Fault read_media(Bytes bytes, Media& media) {
  Reader in(bytes);
  while (in.next()) {
    if (in.type == wire::kVarint && in.number == 1)
      media.kind = static_cast<std::int32_t>(in.varint());
    else if (in.type == wire::kVarint && in.number == 2)
      media.duration_ms = static_cast<std::int32_t>(in.varint());
    else
      in.skip();
  }
  return in.fault();
}

Fault read_post(Bytes bytes, Post& post) {
  Reader in(bytes);
  while (in.next()) {
    if (in.type == wire::kFixed64) {
      const std::uint64_t value = in.fixed64();
      switch (in.number) {
        case 1:
          post.post_id = value;
          break;
        case 2:
          post.author_id = value;
          break;
        case 6:
          post.parent_id = value;
          break;
        case 7:
          post.parent_user_id = value;
          break;
        case 8:
          post.source_id = value;
          break;
        case 9:
          post.source_user_id = value;
          break;
        case 12:
          post.conversation_id = value;
          break;
        default:
          break;
      }
    } else if (in.type == wire::kVarint) {
      const std::uint64_t value = in.varint();
      if (in.number == 3) post.created_at_ms = static_cast<std::int64_t>(value);
      if (in.number == 16) post.nullcast = value != 0;
    } else if (in.type == wire::kBytes && in.number == 13) {
      const Bytes item = in.bytes();
      Media media;
      const Fault fault = read_media(item, media);
      if (fault != Fault::none) return fault;
      if (post.media_count++ == 0) post.first_media = media;
    } else {
      in.skip();
    }
  }
  return in.fault();
}

// The fixed64 fields 1-4 of a body; bit n of `seen` says that number n was there, `state` is varint field 2.
struct Ids {
  std::array<std::uint64_t, 5> value{};
  std::uint64_t state = 0;
};

Fault read_ids(Bytes bytes, Ids& ids) {
  Reader in(bytes);
  while (in.next()) {
    if (in.type == wire::kFixed64 && in.number <= 4)
      ids.value[in.number] = in.fixed64();
    else if (in.type == wire::kVarint && in.number == 2)
      ids.state = in.varint();
    else
      in.skip();
  }
  return in.fault();
}

std::int64_t floor_seconds(std::int64_t ms) { return ms >= 0 ? ms / 1000 : -((999 - ms) / 1000); }

// One NetworkEvent as it is read: the variant that came last, its bytes so far and the time.
struct Envelope {
  std::uint32_t variant = 0;
  bool unknown = false;
  std::int64_t time_ms = 0;
  Post post;
  Ids ids;
};

Fault read_envelope(Slice message, Envelope& e) {
  Reader in(message.data, message.size);
  while (in.next()) {
    if (in.type == wire::kVarint && in.number == 2) {
      e.time_ms = static_cast<std::int64_t>(in.varint());
      continue;
    }
    if (in.number < 10) {
      in.skip();
      continue;
    }
    if (in.type != wire::kBytes || in.number > kProfile) {
      e.unknown = true;
      in.skip();
      continue;
    }
    const Bytes body = in.bytes();
    if (in.fault() != Fault::none) break;
    if (in.number != e.variant) {
      e.variant = in.number;
      e.post = {};
      e.ids = {};
    }
    const Fault fault = e.variant == kPost ? read_post(body, e.post) : read_ids(body, e.ids);
    if (fault != Fault::none) return fault;
  }
  return in.fault();
}

PostMessage to_create(const Envelope& e, const FeederRules& rules) {
  const Post& post = e.post;
  PostMessage create;
  create.post_id = static_cast<std::int64_t>(post.post_id);
  create.author_id = static_cast<std::int64_t>(post.author_id);
  create.created_at = floor_seconds(post.created_at_ms != 0 ? post.created_at_ms : e.time_ms);
  create.in_reply_to_post_id = static_cast<std::int64_t>(post.parent_id);
  create.in_reply_to_user_id = static_cast<std::int64_t>(post.parent_user_id);
  create.source_post_id = static_cast<std::int64_t>(post.source_id);
  create.source_user_id = static_cast<std::int64_t>(post.source_user_id);
  create.conversation_id = static_cast<std::int64_t>(post.conversation_id);
  create.is_retweet = post.source_id != 0;
  create.is_reply = post.parent_id != 0 || post.parent_user_id != 0;
  if (post.media_count == 1) {
    // In this schema 0 is "not known".
    const std::int64_t duration = post.first_media.duration_ms > 0 ? post.first_media.duration_ms : -1;
    create.has_video = has_playable_video({&post.first_media.kind, 1}, {&duration, 1}, rules.min_video_duration_ms);
  }
  return create;
}

// Whether the id carries a time (a snowflake minted before now) that lies before the retention.
bool older_than_retention(std::uint64_t id, const FeederRules& rules) {
  if (rules.retention_seconds == 0 || (id >> 22) == 0) return false;
  const std::int64_t minted = (static_cast<std::int64_t>(id >> 22) + kSnowflakeEpochMs) / 1000;
  return minted <= rules.now && rules.now - minted > rules.retention_seconds;
}

void map_one(Slice message, std::uint32_t index, const FeederRules& rules, InNetworkColumns& out) {
  Envelope e;
  const Fault fault = read_envelope(message, e);
  if (fault != Fault::none) return append_bad(out, fault, index);
  switch (e.variant) {
    case 0:
      if (e.unknown)
        ++out.unknown;
      else
        append_bad(out, Fault::no_variant, index);
      return;
    case kPost:
      if (e.post.post_id == 0) return append_bad(out, Fault::missing_field, index);
      if (e.post.nullcast)
        ++out.nullcast;
      else
        append_create(out, to_create(e, rules), index);
      return;
    case kDeletePost:
      if (e.ids.value[1] == 0) return append_bad(out, Fault::missing_field, index);
      if (older_than_retention(e.ids.value[1], rules)) {
        ++out.late_deletes;
        return;
      }
      append_delete(out, static_cast<std::int64_t>(e.ids.value[1]),
                    rules.stamp_deletes_now || e.time_ms <= 0 ? rules.now : floor_seconds(e.time_ms), index);
      return;
    case kAccountState:
      append_account(out, static_cast<std::int64_t>(e.ids.value[1]),
                     static_cast<std::uint8_t>(std::min<std::uint64_t>(e.ids.state, 255)), index);
      return;
    default:
      ++out.other;
  }
}

// --- encoding
// ---------------------------------------------------------------------------------------------------------

std::uint8_t* write_pair(std::uint32_t variant, std::int64_t first, std::int64_t second, std::uint8_t* at) {
  wire::Writer out(at);
  out.tag(variant, wire::kBytes);
  out.varint(wire::field_size(first) + wire::field_size(second));
  out.field(1, first);
  out.field(2, second);
  return out.at();
}

}  // namespace

bool has_playable_video(std::span<const std::int32_t> kinds, std::span<const std::int64_t> durations_ms,
                        std::int64_t min_duration_ms) {
  constexpr std::int32_t kVideo = 2;
  return kinds.size() == 1 && kinds[0] == kVideo && durations_ms[0] >= 0 && durations_ms[0] >= min_duration_ms;
}

void decode_in_network(std::span<const Slice> messages, InNetworkColumns& out) {
  reserve(out, messages.size());
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].data == nullptr)
      ++out.empty;
    else
      decode_one(messages[i], static_cast<std::uint32_t>(i), out);
  }
}

void decode_network(std::span<const Slice> messages, const FeederRules& rules, InNetworkColumns& out) {
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].data == nullptr)
      ++out.empty;
    else
      map_one(messages[i], static_cast<std::uint32_t>(i), rules, out);
  }
}

Encoded encode_in_network(const InNetworkColumns& c) {
  const std::size_t total = c.post_id.size() + c.deleted_id.size() + c.account_id.size();
  Encoded out;
  out.bytes.resize(total * kMaxPostMessage);
  out.offsets.reserve(total + 1);
  out.offsets.push_back(0);
  std::uint8_t* at = out.bytes.data();
  std::size_t create = 0, remove = 0, account = 0;
  const auto next = [](const std::vector<std::uint32_t>& index, std::size_t row) {
    return row < index.size() ? index[row] : 0xFFFFFFFFu;
  };
  for (std::size_t row = 0; row < total; ++row) {
    const std::uint32_t a = next(c.create_index, create), b = next(c.delete_index, remove),
                        d = next(c.account_index, account);
    if (create < c.post_id.size() && a <= b && a <= d) {
      at = write_post(c, create, at);
      out.keys.push_back(c.post_id[create++]);
      out.variants.push_back(1);
    } else if (remove < c.deleted_id.size() && b <= d) {
      at = write_pair(2, c.deleted_id[remove], c.deleted_at[remove], at);
      out.keys.push_back(c.deleted_id[remove++]);
      out.variants.push_back(2);
    } else {
      at = write_pair(3, c.account_id[account], c.account_state[account], at);
      out.keys.push_back(c.account_id[account++]);
      out.variants.push_back(3);
    }
    out.offsets.push_back(at - out.bytes.data());
  }
  out.bytes.resize(static_cast<std::size_t>(at - out.bytes.data()));
  return out;
}

std::vector<std::uint8_t> concerns_users(std::span<const Slice> messages, std::span<const std::uint64_t> users) {
  std::vector<std::uint8_t> result(messages.size(), 0);
  const auto listed = [&](std::uint64_t id) { return std::binary_search(users.begin(), users.end(), id); };
  for (std::size_t i = 0; i < messages.size(); ++i) {
    Envelope e;
    if (messages[i].data == nullptr || read_envelope(messages[i], e) != Fault::none) continue;
    bool concerns = false;
    if (e.variant == kPost)
      concerns = listed(e.post.author_id);
    else if (e.variant == kDeletePost)
      concerns = listed(e.ids.value[2]);
    else if ((e.variant >= kFirstPair && e.variant <= kLastPair) || e.variant == kSubscribe ||
             e.variant == kUnsubscribe)
      concerns = listed(e.ids.value[1]) || listed(e.ids.value[2]);
    else if (e.variant == kLabel)
      concerns = e.ids.value[4] != 0 && listed(e.ids.value[4]);
    else if (e.variant != 0 && e.variant != kAccountState)
      concerns = listed(e.ids.value[1]);
    result[i] = concerns;
  }
  return result;
}

}  // namespace xfast::eventlog
