// Posts for the tests of the store, and checksums for damaged snapshots.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "common/crc32c.h"
#include "thunder/store.h"

namespace thunder_tests {

struct Posts {
  std::vector<std::int64_t> id, author, created, parent, parent_user, source, source_user, conversation;
  std::vector<std::uint8_t> retweet, reply, video;

  void add(std::int64_t post, std::int64_t by, std::int64_t at) {
    id.push_back(post);
    author.push_back(by);
    created.push_back(at);
    for (auto* column : {&parent, &parent_user, &source, &source_user, &conversation}) column->push_back(0);
    for (auto* column : {&retweet, &reply, &video}) column->push_back(0);
  }

  void add_random(std::mt19937_64& rng, std::uint32_t now, std::uint64_t ids, std::uint64_t users) {
    const std::uint64_t age = rng() % 8 == 0 ? rng() % 900 : rng() % 10;
    add(static_cast<std::int64_t>(rng() % ids), static_cast<std::int64_t>(rng() % users),
        static_cast<std::int64_t>(now - 1 - age));
    video.back() = rng() % 5 == 0;
    const std::uint64_t kind = rng() % 10;
    if (kind >= 5 && kind < 8) {
      reply.back() = 1;
      parent.back() = static_cast<std::int64_t>(rng() % ids);
      parent_user.back() = static_cast<std::int64_t>(rng() % users);
      conversation.back() = rng() % 2 == 0 ? parent.back() : static_cast<std::int64_t>(rng() % ids);
    } else if (kind >= 8) {
      retweet.back() = 1;
      source.back() = static_cast<std::int64_t>(rng() % ids);
      source_user.back() = static_cast<std::int64_t>(rng() % users);
    }
  }

  [[nodiscard]] xfast::thunder::PostColumns columns() const {
    return {.count = id.size(),
            .post_id = id.data(),
            .author_id = author.data(),
            .created_at = created.data(),
            .parent_id = parent.data(),
            .parent_user = parent_user.data(),
            .source_id = source.data(),
            .source_user = source_user.data(),
            .conversation = conversation.data(),
            .is_retweet = retweet.data(),
            .is_reply = reply.data(),
            .has_video = video.data()};
  }
};

// Make the checksums of a snapshot fit its bytes (offsets of snapshot.cpp).
inline void seal(std::string& snapshot) {
  constexpr std::size_t kHeader = 128, kBodyBytes = 80, kBodyCrc = 88, kHeaderCrc = 120;
  if (snapshot.size() < kHeader) return;
  const std::uint64_t bytes = snapshot.size() - kHeader;
  std::memcpy(snapshot.data() + kBodyBytes, &bytes, sizeof(bytes));
  const std::uint32_t body = xfast::crc32c(0, snapshot.data() + kHeader, bytes);
  std::memcpy(snapshot.data() + kBodyCrc, &body, sizeof(body));
  const std::uint32_t header = xfast::crc32c(0, snapshot.data(), kHeaderCrc);
  std::memcpy(snapshot.data() + kHeaderCrc, &header, sizeof(header));
}

}  // namespace thunder_tests
