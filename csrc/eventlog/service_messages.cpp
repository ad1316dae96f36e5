#include "eventlog/service_messages.h"

#include "eventlog/post_message.h"

namespace xfast::eventlog {
namespace {

using wire::Bytes;
using wire::Fault;
using wire::Reader;

enum Number : std::uint32_t {
  kUserId = 1,
  kFollowing = 2,
  kExcluded = 3,
  kMaxResults = 4,
  kVideoOnly = 5,
  kAlgorithm = 6,
  kDebug = 7
};

// A repeated integer field, packed or one by one.
Fault read_repeated(Reader& in, std::vector<std::int64_t>& out) {
  if (in.type == wire::kVarint) {
    out.push_back(static_cast<std::int64_t>(in.varint()));
    return in.fault();
  }
  const Bytes packed = in.bytes();
  if (in.fault() != Fault::none) return in.fault();
  return wire::packed_varints(packed, out);
}

std::size_t packed_size(const std::vector<std::int64_t>& values) {
  std::size_t size = 0;
  for (const auto value : values) size += wire::varint_size(static_cast<std::uint64_t>(value));
  return size;
}

void write_packed(wire::Writer& out, std::uint32_t number, const std::vector<std::int64_t>& values, std::size_t size) {
  if (values.empty()) return;
  out.tag(number, wire::kBytes);
  out.varint(size);
  for (const auto value : values) out.varint(static_cast<std::uint64_t>(value));
}

}  // namespace

Fault decode_request(wire::Slice message, Request& out) {
  Reader in(message.data, message.size);
  while (in.next()) {
    const bool number = in.type == wire::kVarint, bytes = in.type == wire::kBytes;
    if (in.number == kUserId && number) {
      out.user_id = in.varint();
    } else if ((in.number == kFollowing || in.number == kExcluded) && (number || bytes)) {
      const Fault fault = read_repeated(in, in.number == kFollowing ? out.following : out.excluded);
      if (fault != Fault::none) return fault;
    } else if (in.number == kMaxResults && number) {
      out.max_results = static_cast<std::int32_t>(in.varint());
    } else if (in.number == kVideoOnly && number) {
      out.video_only = in.varint() != 0;
    } else if (in.number == kAlgorithm && bytes) {
      const Bytes text = in.bytes();
      out.algorithm.assign(reinterpret_cast<const char*>(text.data()), text.size());
    } else if (in.number == kDebug && number) {
      out.debug = in.varint() != 0;
    } else {
      in.skip();
    }
  }
  return in.fault();
}

std::vector<std::uint8_t> encode_request(const Request& r) {
  const std::size_t following = packed_size(r.following), excluded = packed_size(r.excluded);
  std::vector<std::uint8_t> bytes(following + excluded + r.algorithm.size() + 80);
  wire::Writer out(bytes.data());
  out.field(kUserId, static_cast<std::int64_t>(r.user_id));
  write_packed(out, kFollowing, r.following, following);
  write_packed(out, kExcluded, r.excluded, excluded);
  out.field(kMaxResults, r.max_results);
  out.field(kVideoOnly, r.video_only);
  if (!r.algorithm.empty()) {
    out.tag(kAlgorithm, wire::kBytes);
    out.varint(r.algorithm.size());
    out.raw(r.algorithm.data(), r.algorithm.size());
  }
  out.field(kDebug, r.debug);
  bytes.resize(static_cast<std::size_t>(out.at() - bytes.data()));
  return bytes;
}

std::vector<std::uint8_t> encode_response(const PostSpans& posts) {
  std::vector<std::uint8_t> bytes(posts.post_id.size() * kMaxPostMessage);
  std::uint8_t* at = bytes.data();
  for (std::size_t row = 0; row < posts.post_id.size(); ++row) at = write_post(posts, row, at);
  bytes.resize(static_cast<std::size_t>(at - bytes.data()));
  return bytes;
}

Fault decode_response(wire::Slice message, PostVectors& out) {
  Reader in(message.data, message.size);
  while (in.next()) {
    if (in.number != 1 || in.type != wire::kBytes) {
      in.skip();
      continue;
    }
    const Bytes body = in.bytes();
    if (in.fault() != Fault::none) break;
    PostMessage post;
    const Fault fault = read_post_message(body, post);
    if (fault != Fault::none) return fault;
    append_post(out, post);
  }
  return in.fault();
}

}  // namespace xfast::eventlog
