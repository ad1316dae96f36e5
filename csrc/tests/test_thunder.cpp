// The post store alone: its building blocks, random histories with their memory, and snapshots good and bad.
#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "common/crc32c.h"
#include "tests/check.h"
#include "tests/thunder_posts.h"
#include "thunder/store.h"

namespace {

using namespace xfast;
using namespace xfast::thunder;
using thunder_tests::Posts;

void grace_periods() {
  EpochDomain epochs;
  epochs.begin();
  CHECK(epochs.elapsed());
  {
    const auto guard = epochs.enter();
    epochs.begin();
    CHECK(!epochs.elapsed());
    const auto later = epochs.enter();
    CHECK(!epochs.elapsed());
  }
  CHECK(epochs.elapsed());
  // A reader that comes after the start of a period does not hold it up for ever.
  epochs.begin();
  for (int i = 0; i < 3; ++i) {
    const auto guard = epochs.enter();
    (void)epochs.elapsed();
  }
  CHECK(epochs.elapsed());
}

void slabs() {
  SlabPool<16> pool("blocks");
  std::mt19937 rng(1);
  std::map<std::uint32_t, std::uint32_t> blocks;  // handle -> units
  for (int step = 0; step < 20'000; ++step) {
    if (blocks.empty() || rng() % 5 < 3) {
      const std::uint32_t units = 2u << rng() % 5;
      const std::uint32_t handle = pool.allocate(units);
      CHECK(handle != 0 && !blocks.contains(handle));
      std::memset(pool.at(handle), static_cast<int>(handle & 0xFF), units * 16);
      blocks[handle] = units;
    } else {
      auto at = blocks.begin();
      std::advance(at, rng() % std::min<std::size_t>(blocks.size(), 50));
      const auto* bytes = reinterpret_cast<const unsigned char*>(pool.at(at->first));
      CHECK(std::all_of(bytes, bytes + at->second * 16, [&](unsigned char b) { return b == (at->first & 0xFF); }));
      pool.release(at->first);
      blocks.erase(at);
    }
  }
  CHECK(pool.bytes() > 0);
  for (const auto& [handle, units] : blocks) pool.release(handle);
  pool.shrink();
  CHECK_EQ(pool.bytes(), 0u);
}

void index() {
  std::vector<std::int64_t> keys;
  const auto key_of = [&](std::uint32_t value) { return keys[value]; };
  FlatIndex index;
  std::mt19937_64 rng(2);
  std::map<std::int64_t, std::uint32_t> expected;
  for (int step = 0; step < 30'000; ++step) {
    const auto key = static_cast<std::int64_t>(rng() % 3000) - 1500;
    const auto found = expected.find(key);
    CHECK_EQ(index.find(key, key_of), found == expected.end() ? FlatIndex::kMissing : found->second);
    if (found == expected.end()) {
      keys.push_back(key);
      const auto value = static_cast<std::uint32_t>(keys.size() - 1);
      delete index.insert(key, value, key_of);
      expected[key] = value;
    } else if (rng() % 2 == 0) {
      index.erase(key, found->second);
      expected.erase(found);
    }
    CHECK_EQ(index.size(), expected.size());
  }
  for (auto at = expected.begin(); at != expected.end(); at = expected.erase(at)) index.erase(at->first, at->second);
  delete index.shrink(key_of);
  CHECK(index.bytes() < 100);
}

void forwarding() {
  Forwarding forwarding;
  std::vector<std::uint32_t> moved;
  const auto note = [&](std::uint32_t slot) { moved.push_back(slot); };
  delete forwarding.add(1, 2, note);
  delete forwarding.add(2, 3, note);
  CHECK_EQ(moved.size(), 1u);
  CHECK_EQ(forwarding.find(1), 3u);
  CHECK_EQ(forwarding.find(2), 3u);
  CHECK_EQ(forwarding.find(3), kNone);
  for (std::uint32_t slot = 100; slot < 400; ++slot) delete forwarding.add(slot, slot + 1000, note);
  for (std::uint32_t slot = 100; slot < 400; ++slot) CHECK_EQ(forwarding.remove(slot), slot + 1000);
  CHECK_EQ(forwarding.size(), 2u);
  CHECK_EQ(forwarding.remove(1), 3u);
  CHECK_EQ(forwarding.find(2), 3u);
}

// A random history; at its end, everything expires and every byte that posts took comes back.
void memory_returns(bool reference) {
  Config config;
  config.retention = 1000;
  config.reference = reference;
  PostStore store(config);
  std::mt19937_64 rng(3);
  std::uint32_t now = 100'000;
  std::size_t largest = 0;
  for (int step = 0; step < 400; ++step) {
    now += static_cast<std::uint32_t>(rng() % 12);
    Posts posts;
    for (int i = 0; i < 40; ++i) posts.add_random(rng, now, 2000, 30);
    store.insert(posts.columns(), now);
    std::vector<std::int64_t> ids, times;
    for (std::uint64_t i = 0; i < rng() % 12; ++i) {
      ids.push_back(static_cast<std::int64_t>(rng() % 2000));
      times.push_back(now);
    }
    store.remove(ids, times);
    if (step % 9 == 0) store.trim(now);
    if (step % 50 == 7) {
      store.set_account_state(std::vector<std::int64_t>{step % 30}, AccountState::erased);
      store.set_account_state(std::vector<std::int64_t>{step % 30}, AccountState::active);
    }
    if (step == 200) store.clear();
    std::size_t bytes = 0;
    for (const auto& [part, size] : store.memory()) bytes += size;
    largest = std::max(largest, bytes);
  }
  CHECK(store.stats().posts > 100);
  CHECK(largest > 300'000);
  store.trim(now + 10'000);
  if (reference) {
    // Arrival order can keep an expired post behind a newer one; when both are old they go.
    store.trim(now + 20'000);
  }
  const Stats stats = store.stats();
  CHECK_EQ(stats.posts, 0u);
  CHECK_EQ(stats.original + stats.secondary + stats.video, 0u);
  std::size_t bytes = 0;
  for (const auto& [part, size] : store.memory()) bytes += size;
  // In reference mode clear() forgot when to lift the tombstones of its time; they stay, as in the release.
  if (reference) {
    CHECK(bytes < largest / 2);
  } else {
    CHECK_EQ(stats.deleted, 0u);
    CHECK(bytes < 8'192);
  }
}

std::string small_snapshot(bool reference) {
  Config config;
  config.retention = 1000;
  config.reference = reference;
  PostStore store(config);
  std::mt19937_64 rng(5);
  for (std::uint32_t now = 50'000; now < 50'300; now += 20) {
    Posts posts;
    for (int i = 0; i < 20; ++i) posts.add_random(rng, now, 120, 9);
    store.insert(posts.columns(), now);
    store.remove(std::vector<std::int64_t>{now % 119, now % 61}, std::vector<std::int64_t>{now, now});
  }
  store.set_account_state(std::vector<std::int64_t>{3, 77}, AccountState::suspended);
  return store.save("offset 12");
}

std::vector<std::int64_t> ask(const PostStore& store, std::int64_t viewer) {
  std::vector<std::int64_t> following;
  for (std::int64_t user = 0; user < 9; ++user) following.push_back(user);
  Query query;
  query.viewer = viewer;
  query.following = following;
  query.now = 50'300;
  PostTable table;
  store.query(query, table);
  return {table.ids(0), table.ids(0) + PostTable::kIds * table.size()};
}

bool loads(const std::string& snapshot, bool reference, std::string* why = nullptr) {
  Config config;
  config.retention = 1000;
  config.reference = reference;
  PostStore store(config);
  try {
    store.load(snapshot);
  } catch (const ReadError& error) {
    if (why != nullptr) *why = error.what();
    return false;
  }
  // What was accepted must be fit for use.
  ask(store, 4);
  store.remove(std::vector<std::int64_t>{1, 2, 3}, std::vector<std::int64_t>{50'300, 50'300, 50'300});
  store.trim(50'900);
  ask(store, 4);
  store.trim(90'000);
  return true;
}

void snapshots(bool reference) {
  const std::string snapshot = small_snapshot(reference);
  Config config;
  config.retention = 1000;
  config.reference = reference;
  PostStore first(config), second(config);
  CHECK_EQ(first.load(snapshot), std::string("offset 12"));
  CHECK(ask(first, 4).size() > 100);
  // Saving what was loaded gives an equal store (numbers, and so bytes, may differ in reference mode's order).
  CHECK_EQ(second.load(first.save("again")), std::string("again"));
  CHECK(ask(first, 4) == ask(second, 4));
  CHECK(first.account_state(77) == AccountState::suspended);
  bool refused = false;
  try {
    second.load(snapshot);
  } catch (const ReadError&) {
    refused = true;
  }
  CHECK(refused);

  std::string why;
  CHECK(!loads(snapshot, !reference, &why));
  CHECK(why.find("quirks") != std::string::npos);
  for (std::size_t size = 0; size < snapshot.size(); size += 1 + size / 9)
    CHECK(!loads(snapshot.substr(0, size), reference));
  CHECK(!loads(snapshot + "x", reference));
  for (std::size_t at = 0; at < snapshot.size(); at += at < 128 ? 1 : 13) {
    std::string changed = snapshot;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    CHECK(!loads(changed, reference) || (at >= 124 && at < 128));  // the padding of the header
  }
  std::string newer = snapshot;
  newer[8] = 2;
  CHECK(!loads(newer, reference, &why));
  CHECK(why.find("newer") != std::string::npos);

  // Damage that keeps the checksums: refused, or loaded into a store that can be used.
  std::mt19937_64 rng(11);
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string changed = snapshot;
    for (std::uint64_t i = 0; i <= rng() % 3; ++i) {
      const std::size_t at = 24 + rng() % (changed.size() - 24);
      changed[at] = static_cast<char>(rng() % 4 == 0 ? rng() : rng() % 8);
    }
    thunder_tests::seal(changed);
    accepted += loads(changed, reference) ? 1 : 0;
  }
  CHECK(accepted > 20 && accepted < 2900);
}

// A post that changes its author while a lookup runs, once before and once after the lookup came by it. The clock of
// the lookup, asked before each followee, is where the writer comes in.
void replaced_during_a_lookup(int when, std::int64_t author_then) {
  Config config;
  config.timeout_ms = 1000;
  PostStore store(config);
  Posts before, again;
  before.add(11, 2, 900);
  before.add(10, 1, 950);
  again.add(10, 2, 960);
  store.insert(before.columns(), 1000);
  const std::vector<std::int64_t> following = {1, 2};
  Query query;
  query.following = following;
  query.now = 1000;
  int asked = 0;
  query.elapsed_ms = [&] {
    if (asked++ == when) store.insert(again.columns(), 1000);
    return 0.0;
  };
  for (const std::int64_t author : {author_then, std::int64_t{2}}) {
    PostTable table;
    store.query(query, table);
    CHECK_EQ(table.size(), 2u);
    CHECK_EQ(table.ids(PostTable::post_id)[0], 10);
    CHECK_EQ(table.ids(PostTable::author_id)[0], author);
    CHECK_EQ(table.ids(PostTable::post_id)[1], 11);
  }
}

}  // namespace

int main() {
  grace_periods();
  slabs();
  index();
  forwarding();
  replaced_during_a_lookup(0, 2);
  replaced_during_a_lookup(2, 1);
  for (const bool reference : {false, true}) {
    memory_returns(reference);
    snapshots(reference);
  }
  return check::failures() != 0;
}
