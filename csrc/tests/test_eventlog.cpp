#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "eventlog/frames.h"
#include "eventlog/in_network.h"
#include "eventlog/service_messages.h"

using namespace xfast;
using namespace xfast::eventlog;

namespace {

using Buffer = std::vector<std::uint8_t>;

// An empty vector has no address, but an empty message is not an absent one.
wire::Slice slice(const Buffer& bytes) {
  static const std::uint8_t nothing = 0;
  return {bytes.empty() ? &nothing : bytes.data(), bytes.size()};
}

InNetworkColumns decode(const std::vector<Buffer>& messages) {
  std::vector<wire::Slice> slices;
  for (const auto& message : messages) slices.push_back(slice(message));
  InNetworkColumns out;
  decode_in_network(slices, out);
  return out;
}

std::uint8_t only_fault(const Buffer& message) {
  const auto out = decode({message});
  CHECK_EQ(out.bad_index.size(), 1u);
  return out.bad_fault.empty() ? 255 : out.bad_fault[0];
}

std::uint8_t number(Fault fault) { return static_cast<std::uint8_t>(fault); }

void round_trip() {
  InNetworkColumns in;
  std::mt19937_64 random(1);
  const std::int64_t extremes[] = {0, 1, -1, 127, 128, INT64_MAX, INT64_MIN};
  for (std::uint32_t row = 0; row < 300; ++row) {
    const auto id = [&] { return row < 7 ? extremes[row] : static_cast<std::int64_t>(random()); };
    in.post_id.push_back(id());
    in.author_id.push_back(id());
    in.created_at.push_back(id());
    in.in_reply_to_post_id.push_back(row % 3 == 0 ? id() : 0);
    in.in_reply_to_user_id.push_back(row % 5 == 0 ? id() : 0);
    in.source_post_id.push_back(row % 2 == 0 ? id() : 0);
    in.source_user_id.push_back(row % 2 == 0 ? id() : 0);
    in.conversation_id.push_back(row % 7 == 0 ? id() : 0);
    in.is_retweet.push_back(row % 2);
    in.is_reply.push_back(in.in_reply_to_post_id.back() != 0 || in.in_reply_to_user_id.back() != 0 || row % 11 == 0);
    in.has_video.push_back(row % 4 == 0);
    in.create_index.push_back(row * 3);
    in.deleted_id.push_back(id());
    in.deleted_at.push_back(id());
    in.delete_index.push_back(row * 3 + 1);
    in.account_id.push_back(id());
    in.account_state.push_back(row % 6);
    in.account_index.push_back(row * 3 + 2);
  }
  const Encoded encoded = encode_in_network(in);
  CHECK_EQ(encoded.offsets.size(), 901u);
  std::vector<wire::Slice> slices;
  for (std::size_t i = 0; i + 1 < encoded.offsets.size(); ++i)
    slices.push_back({encoded.bytes.data() + encoded.offsets[i],
                      static_cast<std::size_t>(encoded.offsets[i + 1] - encoded.offsets[i])});
  InNetworkColumns out;
  decode_in_network(slices, out);
  CHECK(out.bad_index.empty());
  CHECK(out.post_id == in.post_id);
  CHECK(out.author_id == in.author_id);
  CHECK(out.created_at == in.created_at);
  CHECK(out.in_reply_to_post_id == in.in_reply_to_post_id);
  CHECK(out.in_reply_to_user_id == in.in_reply_to_user_id);
  CHECK(out.source_post_id == in.source_post_id);
  CHECK(out.source_user_id == in.source_user_id);
  CHECK(out.conversation_id == in.conversation_id);
  CHECK(out.is_retweet == in.is_retweet);
  CHECK(out.is_reply == in.is_reply);
  CHECK(out.has_video == in.has_video);
  CHECK(out.create_index == in.create_index);
  CHECK(out.deleted_id == in.deleted_id);
  CHECK(out.deleted_at == in.deleted_at);
  CHECK(out.account_id == in.account_id);
  CHECK(out.account_state == in.account_state);

  // Every prefix of every message is either refused or shorter in fields, and never reads past its end (ASan).
  for (const auto& whole : slices)
    for (std::size_t size = 0; size < whole.size; ++size) {
      const Buffer prefix(whole.data, whole.data + size);  // its own allocation: reading past it is caught
      const auto part = decode({prefix});
      CHECK_EQ(part.bad_index.size(), 1u);
    }
}

void faults() {
  CHECK_EQ(only_fault({}), number(Fault::no_variant));
  CHECK_EQ(only_fault({0x0a, 0x05, 0x08}), number(Fault::truncated));
  CHECK_EQ(only_fault({0x00}), number(Fault::bad_tag));
  CHECK_EQ(only_fault({0x0f}), number(Fault::bad_tag));
  CHECK_EQ(only_fault({0x0a, 0x0c, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}),
           number(Fault::bad_varint));
  CHECK_EQ(only_fault({0x24}), number(Fault::bad_group));              // an end without a start
  CHECK_EQ(only_fault({0x23, 0x2c}), number(Fault::bad_group));        // another number ends the group
  CHECK_EQ(only_fault(Buffer(200, 0x23)), number(Fault::bad_group));   // too deep
  CHECK_EQ(only_fault({0x23, 0x08, 0x01}), number(Fault::truncated));  // a group that does not end

  // A group, a fixed32, a fixed64, bytes and a varint of unknown numbers are stepped over.
  const Buffer strange = {0x23, 0x08, 0x01, 0x24, 0x2d, 1,    2,    3,    4,    0x31, 1,    2,    3,    4,   5,
                          6,    7,    8,    0x3a, 0x01, 0xff, 0x40, 0x05, 0x0a, 0x04, 0x08, 0x07, 0x10, 0x09};
  const auto out = decode({strange});
  CHECK_EQ(out.post_id.size(), 1u);
  CHECK_EQ(out.post_id.at(0), 7);
  CHECK_EQ(out.author_id.at(0), 9);
  // Only unknown things: a variant of a later release.
  CHECK_EQ(decode({{0x22, 0x01, 0x00}}).unknown, 1);
  // The last variant wins.
  const auto last = decode({{0x0a, 0x02, 0x08, 0x07, 0x12, 0x02, 0x08, 0x05}});
  CHECK_EQ(last.post_id.size(), 0u);
  CHECK_EQ(last.deleted_id.at(0), 5);
}

void noise() {
  std::mt19937 random(7);
  const std::vector<std::uint64_t> users = {1, 2, 3};
  for (int round = 0; round < 20000; ++round) {
    Buffer bytes(random() % 60);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random() % 4 == 0 ? random() : random() % 32);
    const wire::Slice one[] = {slice(bytes)};
    InNetworkColumns a, b;
    decode_in_network(one, a);
    decode_network(one, {10'000, 1'000, 600, round % 2 == 0}, b);
    CHECK_EQ(a.post_id.size() + a.deleted_id.size() + a.account_id.size() + a.bad_index.size() +
                 static_cast<std::size_t>(a.unknown),
             1u);
    CHECK_EQ(b.post_id.size() + b.deleted_id.size() + b.account_id.size() + b.bad_index.size() +
                 static_cast<std::size_t>(b.unknown + b.other + b.nullcast + b.late_deletes),
             1u);
    concerns_users(one, users);
    Request request;
    decode_request(one[0], request);
    PostVectors posts;
    decode_response(one[0], posts);
    const Frames frames = scan(bytes.data(), bytes.size(), 100, 1 << 20);
    CHECK(frames.used <= bytes.size());
    CHECK(find_record(bytes.data(), bytes.size(), 0, 0, 1 << 20) <= bytes.size());
  }
}

void records() {
  const Buffer a = {1, 2, 3}, b, c(1000, 9);
  const wire::Slice messages[] = {slice(a), {a.data(), 0}, slice(c)};
  const auto bytes = frame(messages, 41, -5);
  auto all = scan(bytes.data(), bytes.size(), 100, 1 << 20);
  CHECK_EQ(all.starts.size(), 3u);
  CHECK_EQ(all.used, bytes.size());
  CHECK_EQ(all.offsets.at(2), 43);
  CHECK_EQ(all.times_ms.at(0), -5);
  CHECK_EQ(all.sizes.at(2), 1000);
  CHECK_EQ(scan(bytes.data(), bytes.size(), 2, 1 << 20).starts.size(), 2u);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Buffer prefix(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    const auto part = scan(prefix.data(), prefix.size(), 100, 1 << 20);
    CHECK(!part.damaged);
    CHECK(part.starts.size() < 3);
  }
  for (std::size_t bit = 0; bit < 8 * (kFrameHeader + 3); ++bit) {
    auto broken = bytes;
    broken[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    const auto part = scan(broken.data(), broken.size(), 100, 1 << 20);
    CHECK_EQ(part.starts.size(), 0u);
    CHECK_EQ(find_record(broken.data(), broken.size(), 1, 41, 1 << 20), kFrameHeader + 3);
  }
}

void service() {
  Request request;
  request.user_id = ~0ull;
  request.following = {1, -1, INT64_MIN, 300};
  request.excluded = {5};
  request.max_results = 70;
  request.video_only = true;
  request.debug = true;
  request.algorithm = "recent";
  Request back;
  CHECK_EQ(number(decode_request(slice(encode_request(request)), back)), number(Fault::none));
  CHECK_EQ(back.user_id, request.user_id);
  CHECK(back.following == request.following);
  CHECK(back.excluded == request.excluded);
  CHECK_EQ(back.max_results, 70);
  CHECK(back.video_only && back.debug && back.algorithm == "recent");
  const Buffer unpacked = {0x10, 0x05, 0x10, 0x06};  // repeated, not packed
  Request loose;
  CHECK_EQ(number(decode_request(slice(unpacked), loose)), number(Fault::none));
  CHECK_EQ(loose.following.size(), 2u);
}

}  // namespace

int main() {
  round_trip();
  faults();
  noise();
  records();
  service();
  return check::failures();
}
