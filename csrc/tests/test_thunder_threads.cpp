// Readers beside a writer that creates, replaces, deletes, expires, erases and saves. Run under TSan (make ctest-tsan).
//
// Every field of a post follows from its id and its time, so a reader that sees half of one post and half of another
// notices.
#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <unordered_set>
#include <vector>

#include "tests/check.h"
#include "tests/thunder_posts.h"
#include "thunder/store.h"

namespace {

using namespace xfast;
using namespace xfast::thunder;
using thunder_tests::Posts;

constexpr std::int64_t kUsers = 40;
constexpr std::uint32_t kStart = 1'000'000, kRetention = 60;

std::uint64_t mark(std::int64_t id, std::int64_t created) {
  return mix64(static_cast<std::uint64_t>(id) * 1'000'003 + static_cast<std::uint64_t>(created));
}

// The author follows from the id alone (a replaced post stays with its author), all else also from the time.
void add(Posts& posts, std::int64_t id, std::int64_t created) {
  const std::uint64_t m = mark(id, created);
  posts.add(id, static_cast<std::int64_t>(mix64(static_cast<std::uint64_t>(id)) % kUsers), created);
  posts.video.back() = m % 3 == 0;
  if (m % 2 == 0) return;
  if (m % 5 == 0) {
    posts.retweet.back() = 1;
    posts.source.back() = id - 1 - static_cast<std::int64_t>(m % 20);
    posts.source_user.back() = static_cast<std::int64_t>(m % 97);
  } else {
    posts.reply.back() = 1;
    posts.parent.back() = id - 1 - static_cast<std::int64_t>(m % 50);
    posts.parent_user.back() = static_cast<std::int64_t>(m % 89);
    posts.conversation.back() = posts.parent.back() - static_cast<std::int64_t>(m % 2);
  }
}

bool consistent(PostTable& table, std::size_t i) {
  Posts expected;
  add(expected, table.ids(PostTable::post_id)[i], table.ids(PostTable::created_at)[i]);
  return table.ids(PostTable::author_id)[i] == expected.author[0] &&
         table.ids(PostTable::parent_id)[i] == expected.parent[0] &&
         table.ids(PostTable::parent_user)[i] == expected.parent_user[0] &&
         table.ids(PostTable::source_id)[i] == expected.source[0] &&
         table.ids(PostTable::source_user)[i] == expected.source_user[0] &&
         table.ids(PostTable::conversation)[i] == expected.conversation[0] &&
         table.flags(PostTable::is_retweet)[i] == expected.retweet[0] &&
         table.flags(PostTable::is_reply)[i] == expected.reply[0] &&
         table.flags(PostTable::has_video)[i] == expected.video[0];
}

void read(const PostStore& store, const std::atomic<std::uint32_t>& clock, const std::atomic<std::int64_t>& newest,
          const std::atomic<bool>& stop, unsigned seed, std::atomic<std::uint64_t>& seen) {
  std::mt19937_64 rng(seed);
  while (!stop.load()) {
    std::vector<std::int64_t> following, exclude;
    for (std::uint64_t i = 0; i < 1 + rng() % kUsers; ++i)
      following.push_back(static_cast<std::int64_t>(rng() % (kUsers + 5)));
    for (std::uint64_t i = 0; i < rng() % 20; ++i)
      exclude.push_back(newest.load() - static_cast<std::int64_t>(rng() % 100));
    Query query;
    query.viewer = static_cast<std::int64_t>(rng() % 100);
    query.following = following;
    query.exclude = exclude;
    query.max_results = static_cast<std::uint32_t>(1 + rng() % 200);
    query.video = rng() % 4 == 0;
    query.now = clock.load();
    PostTable table;
    store.query(query, table);
    CHECK(table.size() <= query.max_results);
    std::unordered_set<std::int64_t> ids;
    const bool reference = store.config().reference;
    for (std::size_t i = 0; i < table.size(); ++i) {
      const std::int64_t id = table.ids(PostTable::post_id)[i], created = table.ids(PostTable::created_at)[i];
      CHECK(consistent(table, i));
      CHECK(std::find(exclude.begin(), exclude.end(), id) == exclude.end());
      CHECK(std::find(following.begin(), following.end(), table.ids(PostTable::author_id)[i]) != following.end());
      if (i > 0) CHECK(created <= table.ids(PostTable::created_at)[i - 1]);
      if (!reference) {
        CHECK(ids.insert(id).second);
        CHECK(created + kRetention >= query.now);
      }
    }
    seen.fetch_add(table.size());
    (void)store.stats();
    (void)store.memory();
    (void)store.account_state(static_cast<std::int64_t>(rng() % kUsers));
  }
}

void write_and_read(bool reference, int steps) {
  Config config;
  config.retention = kRetention;
  config.max_original = config.max_secondary = 30;
  config.reference = reference;
  PostStore store(config);
  std::atomic<std::uint32_t> clock{kStart};
  std::atomic<std::int64_t> newest{1000};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> seen{0};
  std::vector<std::thread> readers;
  for (unsigned seed = 1; seed <= 3; ++seed)
    readers.emplace_back([&, seed] { read(store, clock, newest, stop, seed, seen); });

  std::mt19937_64 rng(9);
  for (int step = 0; step < steps; ++step) {
    if (step % 4 == 0) clock.fetch_add(1);
    const std::uint32_t now = clock.load();
    Posts posts;
    for (int i = 0; i < 12; ++i) {
      const bool again = rng() % 6 == 0;
      const std::int64_t id = again ? newest.load() - static_cast<std::int64_t>(rng() % 300) : newest.fetch_add(1) + 1;
      add(posts, id, now - 1 - static_cast<std::int64_t>(rng() % 5 == 0 ? rng() % kRetention : rng() % 3));
    }
    store.insert(posts.columns(), now);
    if (step % 2 == 0) {
      std::vector<std::int64_t> ids;
      for (int i = 0; i < 3; ++i) ids.push_back(newest.load() - static_cast<std::int64_t>(rng() % 200));
      store.remove(ids, std::vector<std::int64_t>(ids.size(), now - 50));
    }
    if (step % 7 == 0) store.trim(now);
    if (step % 31 == 0) {
      const std::vector<std::int64_t> user = {static_cast<std::int64_t>(rng() % kUsers)};
      store.set_account_state(user, AccountState::erased);
      store.set_account_state(user, AccountState::active);
    }
    if (step % 101 == 50) {
      PostStore copy(config);
      copy.load(store.save(""));
      CHECK_EQ(copy.stats().posts, store.stats().posts);
    }
    if (step % 400 == 399) store.clear();
  }
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
  CHECK(seen.load() > 0);
  store.trim(clock.load() + 1000);
  CHECK_EQ(store.stats().posts, 0u);
}

}  // namespace

int main() {
  write_and_read(false, 1500);
  write_and_read(true, 700);
  return check::failures() != 0;
}
