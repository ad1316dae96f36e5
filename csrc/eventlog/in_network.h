// Batches of protobuf events to columns and back: InNetworkEvent (the compact topic of Thunder) and the variants of
// NetworkEvent that Thunder needs. No object per event; a message that cannot be read is listed with its index and why.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eventlog/wire.h"

namespace xfast::eventlog {

using wire::Fault;
using wire::Slice;

// Columns of one batch. Times are Unix seconds; 0 is "none" in optional references. `*_index` is the row's message.
struct InNetworkColumns {
  std::vector<std::int64_t> post_id, author_id, created_at, in_reply_to_post_id, in_reply_to_user_id, source_post_id,
      source_user_id, conversation_id;
  std::vector<std::uint8_t> is_retweet, is_reply, has_video;
  std::vector<std::uint32_t> create_index;

  std::vector<std::int64_t> deleted_id, deleted_at;
  std::vector<std::uint32_t> delete_index;

  std::vector<std::int64_t> account_id;
  std::vector<std::uint8_t> account_state;
  std::vector<std::uint32_t> account_index;

  std::vector<std::uint32_t> bad_index;
  std::vector<std::uint8_t> bad_fault;

  std::int64_t empty = 0;         // without payload (a Kafka null value)
  std::int64_t unknown = 0;       // a variant of a later release
  std::int64_t other = 0;         // NetworkEvent variants that do not concern Thunder
  std::int64_t nullcast = 0;      // posts that are never shown in timelines
  std::int64_t late_deletes = 0;  // deletes of posts that are older than the retention
};

// InNetworkEvent messages. `is_reply` is the flag or the presence of either reply id (THUNDER §6).
void decode_in_network(std::span<const Slice> messages, InNetworkColumns& out);

// How NetworkEvents become in-network events (THUNDER §6, "v1 mapping").
struct FeederRules {
  std::int64_t min_video_duration_ms = 0;
  std::int64_t now = 0;                // seconds; a delete without a time gets it
  std::int64_t retention_seconds = 0;  // deletes of older posts are dropped; 0 keeps all
  bool stamp_deletes_now = false;      // the release's rule: deleted_at is the feeder's clock
};

void decode_network(std::span<const Slice> messages, const FeederRules& rules, InNetworkColumns& out);

// Exactly one media item, a video, of known duration that reaches the minimum. `kinds` are MediaKind numbers, an
// unknown duration is negative.
bool has_playable_video(std::span<const std::int32_t> kinds, std::span<const std::int64_t> durations_ms,
                        std::int64_t min_duration_ms);

// Messages back to back: message i is bytes[offsets[i], offsets[i + 1]).
struct Encoded {
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> keys;      // post id; the user's for an account event
  std::vector<std::uint8_t> variants;  // field number of the variant
};

// One InNetworkEvent per row, in the order of the messages they came from.
Encoded encode_in_network(const InNetworkColumns& columns);

// For each NetworkEvent whether it holds data of one of these users (sorted ids): written by the user, or a relation
// with the user at either end. Account events are never data: they are what keeps an erased account erased.
std::vector<std::uint8_t> concerns_users(std::span<const Slice> messages, std::span<const std::uint64_t> users);

}  // namespace xfast::eventlog
