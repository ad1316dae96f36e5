// The messages of InNetworkPostsService (THUNDER §4) to and from columns: the service builds no object per id or post.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eventlog/wire.h"

namespace xfast::eventlog {

struct Request {
  std::uint64_t user_id = 0;
  std::vector<std::int64_t> following, excluded;  // bit-cast from uint64
  std::int64_t max_results = 0;
  std::string algorithm;
  bool video_only = false;
  bool debug = false;
};

wire::Fault decode_request(wire::Slice message, Request& out);
std::vector<std::uint8_t> encode_request(const Request& request);

// The posts of a response, column-wise; all spans have the same length.
template <class Id, class Flag>
struct PostColumns {
  Id post_id, author_id, created_at, in_reply_to_post_id, in_reply_to_user_id, source_post_id, source_user_id,
      conversation_id;
  Flag is_retweet, is_reply, has_video;
};
using PostSpans = PostColumns<std::span<const std::int64_t>, std::span<const std::uint8_t>>;
using PostVectors = PostColumns<std::vector<std::int64_t>, std::vector<std::uint8_t>>;

std::vector<std::uint8_t> encode_response(const PostSpans& posts);
wire::Fault decode_response(wire::Slice message, PostVectors& out);

}  // namespace xfast::eventlog
