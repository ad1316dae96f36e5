// The eleven fields that TweetCreateEvent and LightPost share, numbers included (THUNDER §1).
#pragma once

#include <cstdint>

#include "eventlog/wire.h"

namespace xfast::eventlog {

struct PostMessage {
  std::int64_t post_id = 0, author_id = 0, created_at = 0, in_reply_to_post_id = 0, in_reply_to_user_id = 0,
               source_post_id = 0, source_user_id = 0, conversation_id = 0;
  bool is_retweet = false, is_reply = false, has_video = false;
  bool names_parent = false;  // either reply id is present, be it zero
};

// A second call merges into the same post, as protobuf does with a message field that occurs twice.
wire::Fault read_post_message(wire::Bytes bytes, PostMessage& post);

// Rows of any struct of columns that has the eleven names.
template <class Columns>
void append_post(Columns& out, const PostMessage& post) {
  out.post_id.push_back(post.post_id);
  out.author_id.push_back(post.author_id);
  out.created_at.push_back(post.created_at);
  out.in_reply_to_post_id.push_back(post.in_reply_to_post_id);
  out.in_reply_to_user_id.push_back(post.in_reply_to_user_id);
  out.source_post_id.push_back(post.source_post_id);
  out.source_user_id.push_back(post.source_user_id);
  out.conversation_id.push_back(post.conversation_id);
  out.is_retweet.push_back(post.is_retweet);
  out.is_reply.push_back(post.is_reply);
  out.has_video.push_back(post.has_video);
}

// Room for one framed message: 8 ids and times of 11 bytes, 3 flags of 2, the frame of 2.
constexpr std::size_t kMaxPostMessage = 8 * 11 + 3 * 2 + 2;

// Writes field 1, a message of the row's fields: an entry of a response as well as the create variant of an event.
template <class Columns>
std::uint8_t* write_post(const Columns& c, std::size_t row, std::uint8_t* at) {
  using wire::field_size;
  const std::size_t size = field_size(c.post_id[row]) + field_size(c.author_id[row]) + field_size(c.created_at[row]) +
                           field_size(c.in_reply_to_post_id[row]) + field_size(c.in_reply_to_user_id[row]) +
                           field_size(c.source_post_id[row]) + field_size(c.source_user_id[row]) +
                           field_size(c.conversation_id[row]) + field_size(c.is_retweet[row] != 0) +
                           field_size(c.is_reply[row] != 0) + field_size(c.has_video[row] != 0);
  wire::Writer out(at);
  out.tag(1, wire::kBytes);
  out.varint(size);
  out.field(1, c.post_id[row]);
  out.field(2, c.author_id[row]);
  out.field(3, c.created_at[row]);
  out.field(4, c.in_reply_to_post_id[row]);
  out.field(5, c.in_reply_to_user_id[row]);
  out.field(6, c.is_retweet[row] != 0);
  out.field(7, c.is_reply[row] != 0);
  out.field(8, c.source_post_id[row]);
  out.field(9, c.source_user_id[row]);
  out.field(10, c.has_video[row] != 0);
  out.field(11, c.conversation_id[row]);
  return out.at();
}

}  // namespace xfast::eventlog
