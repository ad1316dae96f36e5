// The snapshot reader: whatever the bytes, refuse them or load a store that can be used.
//
// The checksums are put right first, or nothing but them would ever be tested.
#include <cstdint>
#include <string>
#include <vector>

#include "tests/fuzz.h"
#include "tests/thunder_posts.h"
#include "thunder/store.h"

namespace {

using namespace xfast::thunder;

void use(PostStore& store) {
  std::vector<std::int64_t> following;
  for (std::int64_t user = -2; user < 12; ++user) following.push_back(user);
  for (const bool video : {false, true}) {
    Query query;
    query.viewer = 3;
    query.following = following;
    query.exclude = std::span(following).subspan(4, 3);
    query.video = video;
    query.now = 50'300;
    PostTable table;
    store.query(query, table);
  }
  store.remove(std::vector<std::int64_t>{1, 2, 3}, std::vector<std::int64_t>{50'300, 50'300, 50'300});
  thunder_tests::Posts posts;
  posts.add(2, 3, 50'299);
  posts.add(7, 1, 50'100);
  posts.parent.back() = 5;
  posts.reply.back() = 1;
  store.insert(posts.columns(), 50'300);
  store.set_account_state(std::vector<std::int64_t>{1}, AccountState::erased);
  store.trim(50'700);
  store.finalize(51'200);
  const std::string again = store.save("again");
  PostStore copy(store.config());
  copy.load(again);
  store.clear();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string snapshot(reinterpret_cast<const char*>(data), size);
  thunder_tests::seal(snapshot);
  for (const bool reference : {false, true}) {
    Config config;
    config.retention = 1000;
    config.reference = reference;
    PostStore store(config);
    try {
      store.load(snapshot);
    } catch (const ReadError&) {
      continue;
    }
    use(store);
  }
  return 0;
}
