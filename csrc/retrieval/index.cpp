#include "retrieval/index.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/pages.h"
#include "common/thread_pool.h"
#include "retrieval/filter.h"
#include "retrieval/rows.h"
#include "retrieval/scan.h"

namespace xfast::retrieval {
namespace {

constexpr std::size_t kChunkBlocks = 64;  // blocks that stay in the second-level cache while all queries pass over them
constexpr std::size_t kMergedRows = 1 << 16;  // a segment of more rows is not merged into a newer one
constexpr float kNothing = -std::numeric_limits<float>::infinity();

bool better(const Hit& a, const Hit& b) { return a.score != b.score ? a.score > b.score : a.row < b.row; }

struct Kernels {
  Scan scan;
  Quantise quantise;
};

Kernels kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return {avx512::scan, avx512::quantise};
  if (isa >= Isa::avx2) return {avx2::scan, avx2::quantise};
#endif
  return {scalar::scan, scalar::quantise};
}

// In double precision and one fixed order, so that equal rows have equal scores.
double dot(const float* a, const float* b, std::size_t dim) {
  double sum[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= dim; i += 8)
    for (std::size_t j = 0; j < 8; ++j) sum[j] += static_cast<double>(a[i + j]) * b[i + j];
  for (; i < dim; ++i) sum[i % 8] += static_cast<double>(a[i]) * b[i];
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

}  // namespace

struct Segment {
  Posts posts;
  std::size_t groups = 0, blocks = 0;
  LongBuffer bytes;  // each 128 more than the number it stands for
  std::vector<float> scale;
  double longest = 0;  // of its rows
  double rest = 0;     // longest quantisation rest

  // Rows are numbered from `known` on in error messages: the ones before have been checked when they came.
  Segment(Posts source, std::size_t dim, Quantise quantise, std::size_t threads, std::size_t known = 0)
      : posts(std::move(source)),
        groups((dim + 3) / 4),
        blocks((posts.vectors.count + kBlockRows - 1) / kBlockRows),
        bytes(blocks * groups * kBlockRows * 4) {
    const std::size_t count = posts.vectors.count;
    if (count > std::numeric_limits<std::uint32_t>::max() - kBlockRows)
      throw std::invalid_argument("one append takes fewer than 2^32 rows");
    if (posts.post_ids.size() != count || posts.author_ids.size() != count ||
        posts.topics.size() != count * posts.topics_per_row)
      throw std::invalid_argument("ids and topics must have as many rows as the vectors");
    scale.assign(blocks * kBlockRows, 0.0f);
    struct Extent {
      double longest = 0, rest = 0;
    };
    std::vector<Extent> extents((blocks + kChunkBlocks - 1) / kChunkBlocks);
    parallel_for(extents.size(), threads, [&](std::size_t chunk) {
      std::vector<float> row(dim);
      std::vector<std::int8_t> q(groups * 4, 0);
      const std::size_t first = chunk * kChunkBlocks * kBlockRows;
      for (std::size_t r = first; r < std::min(first + kChunkBlocks * kBlockRows, count); ++r) {
        read_row(posts.vectors, dim, r, row.data());
        const Quantised made = quantise(row.data(), dim, q.data());
        if (!std::isfinite(made.norm))
          throw std::invalid_argument("row " + std::to_string(r - known) + " is not finite");
        scale[r] = made.scale;
        extents[chunk].longest = std::max(extents[chunk].longest, static_cast<double>(made.norm));
        extents[chunk].rest = std::max(extents[chunk].rest, static_cast<double>(made.rest));
        std::uint8_t* block = bytes.data() + r / kBlockRows * groups * kBlockRows * 4 + r % kBlockRows * 4;
        for (std::size_t g = 0; g < groups; ++g) {
          std::uint32_t four;
          std::memcpy(&four, q.data() + 4 * g, 4);
          four ^= 0x80808080u;  // + 128 in every byte
          std::memcpy(block + g * kBlockRows * 4, &four, 4);
        }
      }
    });
    for (const Extent& extent : extents) {
      longest = std::max(longest, extent.longest);
      rest = std::max(rest, extent.rest);
    }
  }

  std::size_t count() const { return posts.vectors.count; }
};

// A segment, its place, and what was removed of it since.
struct Index::Part {
  std::shared_ptr<const Segment> segment;
  std::shared_ptr<const std::vector<std::uint8_t>> removed;  // [rows], or null while nothing is removed
  std::size_t num_removed = 0;
  std::size_t first = 0;  // number of its first row

  bool gone(std::size_t row) const { return removed != nullptr && (*removed)[row] != 0; }
};

struct Index::State {
  std::vector<Part> parts;
  std::size_t size = 0, num_removed = 0;

  void add(Part part) {
    part.first = size;
    size += part.segment->count();
    num_removed += part.num_removed;
    parts.push_back(std::move(part));
  }
};

Index::Index(std::size_t dim, Isa isa, std::size_t threads)
    : dim_(dim), isa_(isa), threads_(threads), state_(std::make_shared<State>()) {
  // 255 * 127 * dim must fit the scan's 32-bit sums.
  if (dim == 0 || dim > 65536) throw std::invalid_argument("dim is " + std::to_string(dim) + ", must be in [1, 65536]");
  if (threads == 0) throw std::invalid_argument("threads is 0, must be at least 1");
  if (isa > detected_isa()) throw std::invalid_argument("this processor lacks the instruction set that was asked for");
}

std::shared_ptr<const Index::State> Index::state() const {
  const std::lock_guard lock(pointer_);
  return state_;
}

void Index::publish(std::shared_ptr<const State> next) {
  const std::lock_guard lock(pointer_);
  state_.swap(next);
}

void Index::append(Posts posts) {
  const std::size_t added = posts.vectors.count;
  if (added == 0) return;
  const std::lock_guard lock(writer_);
  const auto before = state();
  const auto quantise = kernels(isa_).quantise;

  // The new rows take along the segments behind which they would be but a few: a row moves O(log rows) times.
  std::size_t first = before->parts.size(), together = added;
  while (first > 0) {
    const std::size_t older = before->parts[first - 1].segment->count();
    if (older > 2 * together || older + together > kMergedRows) break;
    together += older;
    --first;
  }
  auto next = std::make_shared<State>();
  for (std::size_t i = 0; i < first; ++i) next->add(before->parts[i]);
  Part part;
  if (first == before->parts.size()) {
    part.segment = std::make_shared<const Segment>(std::move(posts), dim_, quantise, threads_);
  } else {
    std::vector<Piece> pieces;
    auto removed = std::make_shared<std::vector<std::uint8_t>>();
    for (std::size_t i = first; i < before->parts.size(); ++i) {
      const Part& old = before->parts[i];
      pieces.push_back({&old.segment->posts, nullptr});
      part.num_removed += old.num_removed;
      if (old.removed != nullptr)
        removed->insert(removed->end(), old.removed->begin(), old.removed->end());
      else
        removed->resize(removed->size() + old.segment->count(), 0);
    }
    pieces.push_back({&posts, nullptr});
    removed->resize(together, 0);
    if (part.num_removed > 0) part.removed = std::move(removed);
    part.segment = std::make_shared<const Segment>(joined(pieces, dim_), dim_, quantise, threads_, together - added);
  }
  next->add(std::move(part));
  publish(std::move(next));
}

std::size_t Index::remove(std::vector<std::uint64_t> post_ids, std::vector<std::uint64_t> author_ids) {
  const IdSet posts(std::move(post_ids)), authors(std::move(author_ids));
  if (posts.empty() && authors.empty()) return 0;
  const std::lock_guard lock(writer_);
  const auto before = state();
  auto next = std::make_shared<State>();
  for (Part part : before->parts) {
    const Posts& rows = part.segment->posts;
    std::shared_ptr<std::vector<std::uint8_t>> marks;
    for (std::size_t r = 0; r < rows.vectors.count; ++r) {
      if (!posts.contains(rows.post_ids[r]) && !authors.contains(rows.author_ids[r])) continue;
      if (part.gone(r)) continue;
      if (marks == nullptr)
        marks = part.removed != nullptr ? std::make_shared<std::vector<std::uint8_t>>(*part.removed)
                                        : std::make_shared<std::vector<std::uint8_t>>(rows.vectors.count, 0);
      (*marks)[r] = 1;
      ++part.num_removed;
    }
    if (marks != nullptr) part.removed = std::move(marks);
    next->add(std::move(part));
  }
  const std::size_t marked = next->num_removed - before->num_removed;
  if (marked > 0) publish(std::move(next));
  return marked;
}

std::size_t Index::compact() {
  const std::lock_guard lock(writer_);
  const auto before = state();
  if (before->num_removed == 0) return 0;
  auto next = std::make_shared<State>();
  for (const Part& part : before->parts) {
    if (part.num_removed == 0) {
      next->add(part);
    } else if (part.num_removed < part.segment->count()) {
      Posts kept = joined({{&part.segment->posts, part.removed.get()}}, dim_);
      Part fresh;
      fresh.segment = std::make_shared<const Segment>(std::move(kept), dim_, kernels(isa_).quantise, threads_);
      next->add(std::move(fresh));
    }
  }
  publish(std::move(next));
  return before->num_removed;
}

std::size_t Index::size() const { return state()->size; }
std::size_t Index::removed() const { return state()->num_removed; }
std::size_t Index::segments() const { return state()->parts.size(); }

std::size_t Index::bytes() const {
  const auto now = state();
  std::size_t total = 0;
  for (const Part& part : now->parts) {
    const Segment& segment = *part.segment;
    total += segment.bytes.size() + segment.scale.size() * sizeof(float) + 16 * segment.count() +
             segment.posts.topics.size() * sizeof(std::int64_t) + (part.removed != nullptr ? part.removed->size() : 0);
  }
  return total;
}

Contents Index::contents(bool with_vectors) const {
  const auto now = state();
  Contents all;
  const std::size_t count = now->size - now->num_removed;
  for (const Part& part : now->parts)
    all.topics_per_row = std::max(all.topics_per_row, part.segment->posts.topics_per_row);
  all.topics.resize(count * all.topics_per_row, 0);
  if (with_vectors) all.vectors.resize(count * dim_);
  for (const Part& part : now->parts) {
    const Posts& posts = part.segment->posts;
    for (std::size_t r = 0; r < posts.vectors.count; ++r) {
      if (part.gone(r)) continue;
      const std::size_t to = all.post_ids.size();
      if (with_vectors) read_row(posts.vectors, dim_, r, all.vectors.data() + to * dim_);
      std::copy_n(posts.topics.data() + r * posts.topics_per_row, posts.topics_per_row,
                  all.topics.data() + to * all.topics_per_row);
      all.post_ids.push_back(posts.post_ids[r]);
      all.author_ids.push_back(posts.author_ids[r]);
    }
  }
  return all;
}

namespace {

// A query ready for scanning.
struct Prepared {
  const float* vector;
  std::vector<std::int8_t> bytes;
  std::int32_t correction = 0;
  float scale = 0;
  double norm = 0, rest = 0;

  Prepared(const float* query, std::size_t dim, Quantise quantise) : vector(query), bytes((dim + 3) / 4 * 4, 0) {
    const Quantised made = quantise(query, dim, bytes.data());
    scale = made.scale;
    norm = made.norm;
    rest = made.rest;
    for (const std::int8_t b : bytes) correction += 128 * b;
  }

  // B of index.h for a segment, with room for the rounding of the lengths, of the approximate score, and of the sums
  // of scores and bounds that are compared.
  float bound(const Segment& segment) const {
    const double rounding = 1e-6 + 1.2e-7 * static_cast<double>(bytes.size());
    const double rows = segment.longest + segment.rest;
    return static_cast<float>((norm * segment.rest + rest * rows) * (1 + rounding) + 1e-6 * norm * rows) +
           std::numeric_limits<float>::min();
  }
};

// The k-th best exact score of a query is at least this; every task raises it and profits from the others.
class Floor {
 public:
  float value() const { return value_.load(std::memory_order_relaxed); }
  void raise(float to) {
    float now = value();
    while (now < to && !value_.compare_exchange_weak(now, to, std::memory_order_relaxed)) {
    }
  }

 private:
  std::atomic<float> value_{kNothing};
};

// What one task keeps for one query: rows of one segment that may be among the best k.
struct Sieve {
  std::vector<Survivor> survivors;
  std::size_t worthwhile = 0;  // survivors at which the floor is looked for again

  // Raises the floor if there are k survivors, and drops those that cannot reach it.
  void tighten(std::size_t k, float bound, Floor& floor) {
    if (survivors.size() >= k) {
      std::nth_element(survivors.begin(), survivors.begin() + static_cast<std::ptrdiff_t>(k - 1), survivors.end(),
                       [](const Survivor& a, const Survivor& b) { return a.score > b.score; });
      floor.raise(survivors[k - 1].score - bound);
    }
    const float threshold = floor.value() - bound;
    std::erase_if(survivors, [threshold](const Survivor& s) { return s.score < threshold; });
    worthwhile = std::max(2 * survivors.size(), survivors.size() + k);
  }
};

}  // namespace

std::vector<std::vector<Hit>> Index::search(const float* queries, std::size_t count, std::size_t k,
                                            const Filter& filter, std::size_t threads, std::size_t first_row) const {
  const auto now = state();
  std::vector<std::vector<Hit>> found(count);
  k = std::min(k, now->size);
  threads = std::max<std::size_t>(threads, 1);
  if (k == 0 || count == 0 || first_row >= now->size) return found;
  const Kernels run = kernels(isa_);
  const Condition condition(filter);
  std::vector<Prepared> prepared;
  prepared.reserve(count);
  for (std::size_t q = 0; q < count; ++q) prepared.emplace_back(queries + q * dim_, dim_, run.quantise);

  // Tasks are runs of blocks of one segment, several per thread so that one who comes late costs little; every task
  // sieves for itself.
  struct Task {
    std::size_t part, first, last;  // blocks
  };
  std::vector<Task> tasks;
  const std::size_t pieces = threads == 1 ? 1 : 4 * threads;
  const std::size_t total = (now->size - first_row) / kBlockRows;
  const std::size_t share = std::max(kChunkBlocks, (total / pieces / kChunkBlocks + 1) * kChunkBlocks);
  for (std::size_t p = 0; p < now->parts.size(); ++p) {
    const Part& part = now->parts[p];
    const std::size_t blocks = part.segment->blocks;
    for (std::size_t at = first_row > part.first ? (first_row - part.first) / kBlockRows : 0; at < blocks; at += share)
      tasks.push_back({p, at, std::min(at + share, blocks)});
  }

  std::vector<Floor> floors(count);
  std::vector<std::vector<Sieve>> sieves(tasks.size(), std::vector<Sieve>(count));
  parallel_for(tasks.size(), threads, [&](std::size_t t) {
    const Task& task = tasks[t];
    const Part& part = now->parts[task.part];
    const Segment& segment = *part.segment;
    const std::size_t skipped = first_row > part.first ? first_row - part.first : 0;
    const bool filtered = part.removed != nullptr || condition.any();
    const auto dropped = [&](const Survivor& s) {  // the last block's padding among them
      return s.row >= segment.count() || s.row < skipped ||
             (filtered && (part.gone(s.row) || !condition.allows(segment.posts, s.row)));
    };
    std::vector<float> bounds;
    for (const Prepared& p : prepared) bounds.push_back(p.bound(segment));
    for (std::size_t first = task.first; first < task.last; first += kChunkBlocks) {
      const std::size_t last = std::min(first + kChunkBlocks, task.last);
      for (std::size_t q = 0; q < count; q += kQueryTile) {
        const std::size_t tile = std::min(kQueryTile, count - q);
        Probe probes[kQueryTile];
        std::size_t before[kQueryTile];
        for (std::size_t i = 0; i < tile; ++i) {
          Sieve& sieve = sieves[t][q + i];
          const Prepared& p = prepared[q + i];
          probes[i] = {p.bytes.data(), p.correction, p.scale, floors[q + i].value() - bounds[q + i], &sieve.survivors};
          before[i] = sieve.survivors.size();
        }
        run.scan(segment.bytes.data(), segment.scale.data(), first, last, segment.groups, probes, tile);
        for (std::size_t i = 0; i < tile; ++i) {
          Sieve& sieve = sieves[t][q + i];
          // Only rows that may be found count towards the k-th best.
          const auto fresh = sieve.survivors.begin() + static_cast<std::ptrdiff_t>(before[i]);
          sieve.survivors.erase(std::remove_if(fresh, sieve.survivors.end(), dropped), sieve.survivors.end());
          if (sieve.survivors.size() >= std::max(k, sieve.worthwhile)) sieve.tighten(k, bounds[q + i], floors[q + i]);
        }
      }
    }
  });

  parallel_for(count, threads, [&](std::size_t q) {
    struct Open {
      float most;  // no exact score is above it
      std::uint32_t row, part;
    };
    std::vector<Open> open;
    const float floor = floors[q].value();
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      const float bound = prepared[q].bound(*now->parts[tasks[t].part].segment);
      for (const Survivor& s : sieves[t][q].survivors)
        if (s.score + bound >= floor)
          open.push_back({s.score + bound, s.row, static_cast<std::uint32_t>(tasks[t].part)});
    }
    std::sort(open.begin(), open.end(), [](const Open& a, const Open& b) { return a.most > b.most; });
    std::vector<float> row(dim_);
    std::vector<Hit>& hits = found[q];  // a heap with the worst on top once it holds k
    for (const Open& candidate : open) {
      if (hits.size() == k && candidate.most < hits.front().score) break;
      const Part& part = now->parts[candidate.part];
      const Posts& posts = part.segment->posts;
      read_row(posts.vectors, dim_, candidate.row, row.data());
      hits.push_back({static_cast<float>(dot(row.data(), prepared[q].vector, dim_)),
                      static_cast<std::int64_t>(part.first + candidate.row), posts.post_ids[candidate.row],
                      posts.author_ids[candidate.row]});
      std::push_heap(hits.begin(), hits.end(), better);
      if (hits.size() > k) {
        std::pop_heap(hits.begin(), hits.end(), better);
        hits.pop_back();
      }
    }
    std::sort(hits.begin(), hits.end(), better);
  });
  return found;
}

std::vector<Hit> Index::rank(const float* query, const std::int64_t* rows, std::size_t count, std::size_t k,
                             const Filter& filter) const {
  const auto now = state();
  const Condition condition(filter);
  std::vector<std::size_t> proposed;
  for (std::size_t i = 0; i < count; ++i)
    if (rows[i] >= 0 && static_cast<std::size_t>(rows[i]) < now->size)
      proposed.push_back(static_cast<std::size_t>(rows[i]));
  std::sort(proposed.begin(), proposed.end());
  proposed.erase(std::unique(proposed.begin(), proposed.end()), proposed.end());
  std::vector<Hit> hits;
  std::vector<float> vector(dim_);
  std::size_t p = 0;
  for (const std::size_t row : proposed) {
    while (row >= now->parts[p].first + now->parts[p].segment->count()) ++p;
    const Part& part = now->parts[p];
    const Posts& posts = part.segment->posts;
    const std::size_t r = row - part.first;
    if (part.gone(r) || !condition.allows(posts, r)) continue;
    read_row(posts.vectors, dim_, r, vector.data());
    hits.push_back({static_cast<float>(dot(vector.data(), query, dim_)), static_cast<std::int64_t>(row),
                    posts.post_ids[r], posts.author_ids[r]});
  }
  const std::size_t kept = std::min(k, hits.size());
  std::partial_sort(hits.begin(), hits.begin() + static_cast<std::ptrdiff_t>(kept), hits.end(), better);
  hits.resize(kept);
  return hits;
}

}  // namespace xfast::retrieval
