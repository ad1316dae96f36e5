// The index against a full sort while nothing else happens, and its promises while threads write and search at once.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "common/cpu.h"
#include "retrieval/index.h"
#include "tests/check.h"

namespace {

using namespace xfast::retrieval;

// A post's vector and author follow from its id, so that anybody can tell what a search must have seen.
std::vector<float> vector_of(std::uint64_t post, std::size_t dim) {
  std::uint64_t state = post / 3 + 1;  // three posts share a vector: ties
  std::vector<float> vector(dim);
  for (float& x : vector) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    x = static_cast<float>(static_cast<std::int64_t>((state >> 33) % 2001) - 1000) / 1000.0f;
  }
  return vector;
}
std::uint64_t author_of(std::uint64_t post) { return post % 7; }
std::int64_t topic_of(std::uint64_t post) { return static_cast<std::int64_t>(post % 4); }

Posts posts_of(const std::vector<std::uint64_t>& ids, std::size_t dim) {
  const auto data = std::make_shared<std::vector<float>>();
  Posts posts;
  for (const std::uint64_t id : ids) {
    const auto vector = vector_of(id, dim);
    data->insert(data->end(), vector.begin(), vector.end());
    posts.post_ids.push_back(id);
    posts.author_ids.push_back(author_of(id));
    posts.topics.push_back(topic_of(id));
  }
  posts.topics_per_row = 1;
  posts.vectors = {data->data(), ids.size(), RowType::float32, nullptr, data};
  return posts;
}

float score_of(std::uint64_t post, const std::vector<float>& query) {
  const auto vector = vector_of(post, query.size());
  double sum = 0;
  for (std::size_t i = 0; i < query.size(); ++i) sum += static_cast<double>(vector[i]) * query[i];
  return static_cast<float>(sum);
}

std::vector<std::uint64_t> ids_of(const std::vector<Hit>& hits) {
  std::vector<std::uint64_t> ids;
  for (const Hit& hit : hits) ids.push_back(hit.post_id);
  return ids;
}

// The posts that may be found, in the order in which they were added.
std::vector<std::uint64_t> expected(const std::vector<std::uint64_t>& alive, const std::vector<float>& query,
                                    std::size_t k, const Filter& filter) {
  std::vector<std::uint64_t> left;
  for (const std::uint64_t post : alive) {
    if (std::count(filter.excluded.begin(), filter.excluded.end(), post) != 0) continue;
    if (filter.by_topic &&
        (topic_of(post) == 0 || std::count(filter.topics.begin(), filter.topics.end(), topic_of(post)) == 0))
      continue;
    left.push_back(post);
  }
  std::map<std::uint64_t, float> score;
  for (const std::uint64_t post : left) score[post] = score_of(post, query);
  std::stable_sort(left.begin(), left.end(), [&](std::uint64_t a, std::uint64_t b) { return score[a] > score[b]; });
  left.resize(std::min(k, left.size()));
  return left;
}

void check_life(xfast::Isa isa, std::size_t dim, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  Index index(dim, isa, 1 + seed % 3);
  std::vector<std::uint64_t> alive;
  std::uint64_t next = 1;
  for (int turn = 0; turn < 25; ++turn) {
    switch (rng() % 4) {
      case 0:
      case 1: {
        std::vector<std::uint64_t> fresh(rng() % 4 == 0 ? rng() % 300 : rng() % 5);
        for (auto& id : fresh) id = next++;
        index.append(posts_of(fresh, dim));
        alive.insert(alive.end(), fresh.begin(), fresh.end());
        break;
      }
      case 2: {
        std::vector<std::uint64_t> posts{rng() % next, rng() % next, rng() % next}, authors;
        if (rng() % 8 == 0) authors.push_back(rng() % 7);
        const std::size_t gone = index.remove(posts, authors);
        const auto dead = [&](std::uint64_t id) {
          return std::count(posts.begin(), posts.end(), id) != 0 ||
                 std::count(authors.begin(), authors.end(), author_of(id)) != 0;
        };
        CHECK_EQ(gone, static_cast<std::size_t>(std::count_if(alive.begin(), alive.end(), dead)));
        std::erase_if(alive, dead);
        break;
      }
      default: {
        const std::size_t removed = index.removed();
        CHECK_EQ(index.compact(), removed);
        CHECK_EQ(index.removed(), std::size_t{0});
      }
    }
    CHECK_EQ(index.size() - index.removed(), alive.size());
    const Contents contents = index.contents(true);
    CHECK(contents.post_ids == alive);
    CHECK_EQ(contents.vectors.size(), alive.size() * dim);

    const auto query = vector_of(rng(), dim);
    for (const std::size_t k : {std::size_t{1}, std::size_t{10}, std::size_t{5000}}) {
      Filter filter;
      if (rng() % 2 == 0) filter.excluded = {rng() % next, rng() % next, 0};
      if (rng() % 2 == 0) filter.by_topic = true, filter.topics = {2, 0, 3};
      const auto found = index.search(query.data(), 1, k, filter, 1 + rng() % 3);
      CHECK(ids_of(found[0]) == expected(alive, query, k, filter));
      for (std::size_t i = 0; i < found[0].size(); ++i)
        CHECK_EQ(found[0][i].score, score_of(found[0][i].post_id, query));

      // A few rows, some of them nonsense: what the search says about these alone.
      std::vector<std::int64_t> rows{-1, static_cast<std::int64_t>(index.size())};
      std::set<std::uint64_t> chosen;
      for (const Hit& hit : found[0])
        if (rng() % 3 == 0) rows.push_back(hit.row), chosen.insert(hit.post_id);
      std::vector<std::uint64_t> wanted;
      for (const std::uint64_t id : ids_of(found[0]))
        if (chosen.count(id) != 0) wanted.push_back(id);
      CHECK(ids_of(index.rank(query.data(), rows.data(), rows.size(), 5000, filter)) == wanted);

      // The rows behind some row.
      const std::size_t first = index.size() == 0 ? 0 : rng() % index.size();
      std::vector<std::uint64_t> behind;
      const auto all = index.search(query.data(), 1, 1 << 20, filter, 1)[0];
      for (const Hit& hit : all)
        if (hit.row >= static_cast<std::int64_t>(first)) behind.push_back(hit.post_id);
      CHECK(ids_of(index.search(query.data(), 1, 1 << 20, filter, 2, first)[0]) == behind);
    }
  }
  if (alive.size() > 100) CHECK(index.segments() < 40);
}

// Vectors in fewer bits are found by what they hold, alone and beside float32 ones, also after a compaction.
void check_stored_types() {
  constexpr std::size_t kDim = 9, kRows = 40;
  std::mt19937_64 rng(3);
  const auto bytes = std::make_shared<std::vector<std::int8_t>>(kRows * kDim);
  const auto halves = std::make_shared<std::vector<std::uint16_t>>(kRows * kDim);
  const auto scale = std::make_shared<std::vector<float>>(kRows);
  for (auto& b : *bytes) b = static_cast<std::int8_t>(static_cast<int>(rng() % 255) - 127);
  for (auto& h : *halves) h = static_cast<std::uint16_t>(0x3f80u | (rng() & 0x807fu));  // bfloat16 in ±[1, 2)
  for (auto& s : *scale) s = static_cast<float>(rng() % 100) / 1000.0f;
  const auto query = vector_of(99, kDim);
  Index index(kDim, xfast::detected_isa(), 2);
  for (int part = 0; part < 3; ++part) {
    Posts posts;
    if (part == 2) {
      std::vector<std::uint64_t> ids(kRows);
      for (std::size_t r = 0; r < kRows; ++r) ids[r] = 200 + r;
      posts = posts_of(ids, kDim);
    } else {
      for (std::size_t r = 0; r < kRows; ++r) posts.post_ids.push_back(static_cast<std::uint64_t>(part) * 100 + r);
      posts.author_ids = posts.post_ids;
      if (part == 0)
        posts.vectors = {bytes->data(), kRows, RowType::int8, scale->data(), bytes};
      else
        posts.vectors = {halves->data(), kRows, RowType::bfloat16, nullptr, halves};
    }
    index.append(std::move(posts));
  }
  const auto check = [&] {
    std::size_t seen = 0;
    const auto found = index.search(query.data(), 1, 1000, {}, 1);
    for (const Hit& hit : found[0]) {
      double sum = 0;
      for (std::size_t i = 0; i < kDim; ++i) {
        const std::size_t r = hit.post_id % 100;
        float x;
        if (hit.post_id < 100) {
          x = static_cast<float>((*bytes)[r * kDim + i]) * (*scale)[r];
        } else if (hit.post_id < 200) {
          const std::uint32_t bits = static_cast<std::uint32_t>((*halves)[r * kDim + i]) << 16;
          std::memcpy(&x, &bits, 4);
        } else {
          x = vector_of(hit.post_id, kDim)[i];
        }
        sum += static_cast<double>(x) * query[i];
      }
      CHECK(std::abs(hit.score - sum) < 1e-6 * (1 + std::abs(sum)));
      ++seen;
    }
    CHECK_EQ(seen, index.size() - index.removed());
  };
  check();
  index.remove({3, 104, 205}, {});
  check();
  index.compact();
  CHECK_EQ(index.size(), 3 * kRows - 3);
  check();
}

void check_refusals() {
  Index index(3, xfast::Isa::scalar, 1);
  index.append(posts_of({1, 2}, 3));
  Posts bad = posts_of({3, 4, 5}, 3);
  auto data = std::make_shared<std::vector<float>>(9, 1.0f);
  (*data)[5] = std::nanf("");
  bad.vectors.data = data->data();
  bad.vectors.owner = data;
  bool refused = false;
  try {
    index.append(bad);
  } catch (const std::invalid_argument& error) {
    refused = std::strstr(error.what(), "row 1 is not finite") != nullptr;
  }
  CHECK(refused);
  CHECK_EQ(index.size(), std::size_t{2});
}

// Writers add, remove and compact; a reader checks that each answer is one moment of the corpus: every post that was
// there before the search began and goes after it ended is found, nothing is found that had gone before it began, no
// post twice, in order, with its own score and author.
void check_threads(std::uint64_t seed) {
  constexpr std::size_t kDim = 8;
  constexpr std::uint64_t kPosts = 2000;
  enum : int { none, adding, there, going, gone };
  std::vector<std::atomic<int>> stage(kPosts + 1);
  Index index(kDim, xfast::detected_isa(), 1);
  std::atomic<bool> done{false};

  std::thread adder([&] {
    std::mt19937_64 rng(seed);
    for (std::uint64_t next = 1; next <= kPosts;) {
      std::vector<std::uint64_t> ids;
      for (std::uint64_t n = 1 + rng() % 40; n > 0 && next <= kPosts; --n) ids.push_back(next++);
      for (const std::uint64_t id : ids) stage[id] = adding;
      index.append(posts_of(ids, kDim));
      for (const std::uint64_t id : ids) stage[id] = there;
    }
  });
  std::thread remover([&] {
    std::mt19937_64 rng(seed + 1);
    for (int turn = 0; turn < 200; ++turn) {
      std::vector<std::uint64_t> ids;
      for (int n = 0; n < 5; ++n) {
        const std::uint64_t id = 1 + rng() % kPosts;
        if (stage[id] == there && std::count(ids.begin(), ids.end(), id) == 0) ids.push_back(id);
      }
      for (const std::uint64_t id : ids) stage[id] = going;
      CHECK_EQ(index.remove(ids, {}), ids.size());
      for (const std::uint64_t id : ids) stage[id] = gone;
      if (turn % 50 == 49) index.compact();
    }
  });
  std::vector<std::thread> readers;
  std::atomic<int> wrong{0}, answers{0};
  for (std::uint64_t r = 0; r < 2; ++r)
    readers.emplace_back([&, r] {
      std::mt19937_64 rng(seed + 10 + r);
      while (!done) {
        std::vector<int> before(kPosts + 1);
        for (std::uint64_t id = 1; id <= kPosts; ++id) before[id] = stage[id];
        const auto query = vector_of(rng(), kDim);
        const auto hits = index.search(query.data(), 1, r == 0 ? 2 * kPosts : 50, {}, 2)[0];
        std::vector<char> found(kPosts + 1, 0);
        for (std::size_t i = 0; i < hits.size(); ++i) {
          const std::uint64_t id = hits[i].post_id;
          const bool sane = id >= 1 && id <= kPosts && found[id] == 0 && before[id] != gone && stage[id] != none;
          const bool exact = sane && hits[i].score == score_of(id, query) && hits[i].author_id == author_of(id);
          const bool ordered = i == 0 || hits[i - 1].score > hits[i].score ||
                               (hits[i - 1].score == hits[i].score && hits[i - 1].row < hits[i].row);
          if (!exact || !ordered) ++wrong;
          if (sane) found[id] = 1;
        }
        const float last = hits.empty() ? 0.0f : hits.back().score;
        const bool full = hits.size() == 50 && r == 1;
        for (std::uint64_t id = 1; id <= kPosts; ++id)
          if (before[id] == there && stage[id] == there && found[id] == 0 && (!full || score_of(id, query) > last))
            ++wrong;
        ++answers;
      }
    });
  adder.join();
  remover.join();
  done = true;
  for (auto& reader : readers) reader.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK(answers.load() > 0);
  index.compact();
  std::size_t left = 0;
  for (std::uint64_t id = 1; id <= kPosts; ++id) left += stage[id] == there ? 1 : 0;
  CHECK_EQ(index.size(), left);
}

}  // namespace

int main() {
  for (int level = 0; level <= static_cast<int>(xfast::detected_isa()); ++level)
    for (const std::size_t dim : {std::size_t{1}, std::size_t{5}, std::size_t{32}, std::size_t{67}})
      check_life(static_cast<xfast::Isa>(level), dim, 10 * dim + static_cast<std::uint64_t>(level));
  check_stored_types();
  check_refusals();
  check_threads(1);
  return check::failures();
}
