#include "eventlog/post_message.h"

namespace xfast::eventlog {

wire::Fault read_post_message(wire::Bytes bytes, PostMessage& post) {
  wire::Reader in(bytes);
  while (in.next()) {
    // A known number with another wire type is an unknown field, as in protobuf's own parsers.
    if (in.type != wire::kVarint) {
      in.skip();
      continue;
    }
    const std::uint64_t raw = in.varint();
    const auto value = static_cast<std::int64_t>(raw);
    switch (in.number) {
      case 1:
        post.post_id = value;
        break;
      case 2:
        post.author_id = value;
        break;
      case 3:
        post.created_at = value;
        break;
      case 4:
        post.in_reply_to_post_id = value;
        post.names_parent = true;
        break;
      case 5:
        post.in_reply_to_user_id = value;
        post.names_parent = true;
        break;
      case 6:
        post.is_retweet = raw != 0;
        break;
      case 7:
        post.is_reply = raw != 0;
        break;
      case 8:
        post.source_post_id = value;
        break;
      case 9:
        post.source_user_id = value;
        break;
      case 10:
        post.has_video = raw != 0;
        break;
      case 11:
        post.conversation_id = value;
        break;
      default:
        break;
    }
  }
  return in.fault();
}

}  // namespace xfast::eventlog
