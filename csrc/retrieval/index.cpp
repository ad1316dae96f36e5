#include "retrieval/index.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "common/thread_pool.h"
#include "retrieval/scan.h"

namespace xfast::retrieval {
namespace {

constexpr std::size_t kChunkBlocks = 64;  // blocks that stay in the second-level cache while all queries pass over them
constexpr float kNothing = -std::numeric_limits<float>::infinity();

float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, exponent = (h >> 10) & 31u,
                      mantissa = h & 1023u;
  if (exponent == 0) {  // zero and subnormal numbers: mantissa * 2^-24
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -value : value;
  }
  const std::uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (mantissa << 13);
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

void read_row(const Rows& rows, std::size_t dim, std::size_t row, float* out) {
  const auto* at = static_cast<const std::uint8_t*>(rows.data) + row * dim * (rows.type == RowType::float32 ? 4 : 2);
  if (rows.type == RowType::float32) {
    std::memcpy(out, at, dim * 4);  // the mapping may be unaligned
    return;
  }
  for (std::size_t i = 0; i < dim; ++i) {
    std::uint16_t raw;
    std::memcpy(&raw, at + 2 * i, 2);
    if (rows.type == RowType::float16) {
      out[i] = half_to_float(raw);
    } else {
      const std::uint32_t bits = static_cast<std::uint32_t>(raw) << 16;
      std::memcpy(&out[i], &bits, 4);
    }
  }
}

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

}  // namespace

struct Segment {
  Rows rows;
  std::size_t groups = 0, blocks = 0;
  std::vector<std::uint8_t> bytes;
  std::vector<float> scale;
  double longest = 0;  // of its rows
  double rest = 0;     // longest quantisation rest

  Segment(const Rows& source, std::size_t dim, Quantise quantise) : rows(source) {
    groups = (dim + 3) / 4;
    blocks = (rows.count + kBlockRows - 1) / kBlockRows;
    bytes.assign(blocks * groups * kBlockRows * 4, 128);
    scale.assign(blocks * kBlockRows, 0.0f);
    std::vector<float> row(dim);
    std::vector<std::int8_t> q(groups * 4, 0);
    for (std::size_t r = 0; r < rows.count; ++r) {
      read_row(rows, dim, r, row.data());
      const Quantised made = quantise(row.data(), dim, q.data());
      if (!std::isfinite(made.norm)) throw std::invalid_argument("row " + std::to_string(r) + " is not finite");
      scale[r] = made.scale;
      longest = std::max(longest, static_cast<double>(made.norm));
      rest = std::max(rest, static_cast<double>(made.rest));
      std::uint8_t* block = bytes.data() + r / kBlockRows * groups * kBlockRows * 4 + r % kBlockRows * 4;
      for (std::size_t g = 0; g < groups; ++g) {
        std::uint32_t four;
        std::memcpy(&four, q.data() + 4 * g, 4);
        four ^= 0x80808080u;  // + 128 in every byte
        std::memcpy(block + g * kBlockRows * 4, &four, 4);
      }
    }
  }
};

struct Index::State {
  std::vector<std::shared_ptr<const Segment>> segments;
  std::vector<std::size_t> first;  // number of each segment's first row
  std::size_t size = 0;
  std::shared_ptr<const std::vector<std::uint8_t>> removed;  // [size], or null while nothing is removed
  std::size_t num_removed = 0;

  void add(std::shared_ptr<const Segment> segment) {
    first.push_back(size);
    size += segment->rows.count;
    segments.push_back(std::move(segment));
  }
};

Index::Index(std::size_t dim, Isa isa) : dim_(dim), isa_(isa), state_(std::make_shared<State>()) {
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

void Index::append(const Rows& rows) {
  if (rows.count == 0) return;
  if (rows.count > std::numeric_limits<std::uint32_t>::max() - kBlockRows)
    throw std::invalid_argument("one append takes fewer than 2^32 rows");
  const auto segment = std::make_shared<const Segment>(rows, dim_, kernels(isa_).quantise);
  const std::lock_guard lock(writer_);
  auto next = std::make_shared<State>(*state());
  next->add(segment);
  if (next->removed != nullptr) {
    auto removed = std::make_shared<std::vector<std::uint8_t>>(*next->removed);
    removed->resize(next->size, 0);
    next->removed = std::move(removed);
  }
  publish(std::move(next));
}

void Index::remove(const std::int64_t* rows, std::size_t count) {
  if (count == 0) return;
  const std::lock_guard lock(writer_);
  auto next = std::make_shared<State>(*state());
  auto removed = next->removed != nullptr ? std::make_shared<std::vector<std::uint8_t>>(*next->removed)
                                          : std::make_shared<std::vector<std::uint8_t>>(next->size, 0);
  for (std::size_t i = 0; i < count; ++i) {
    if (rows[i] < 0 || static_cast<std::size_t>(rows[i]) >= next->size)
      throw std::out_of_range("row " + std::to_string(rows[i]) + " does not exist, the index has " +
                              std::to_string(next->size));
    std::uint8_t& mark = (*removed)[static_cast<std::size_t>(rows[i])];
    next->num_removed += mark == 0 ? 1 : 0;
    mark = 1;
  }
  next->removed = std::move(removed);
  publish(std::move(next));
}

std::vector<std::int64_t> Index::compact() {
  const std::lock_guard lock(writer_);
  const auto before = state();
  std::vector<std::int64_t> kept;
  kept.reserve(before->size - before->num_removed);
  auto vectors = std::make_shared<std::vector<float>>();
  vectors->resize((before->size - before->num_removed) * dim_);
  for (std::size_t s = 0; s < before->segments.size(); ++s)
    for (std::size_t r = 0; r < before->segments[s]->rows.count; ++r) {
      const std::size_t row = before->first[s] + r;
      if (before->removed != nullptr && (*before->removed)[row] != 0) continue;
      read_row(before->segments[s]->rows, dim_, r, vectors->data() + kept.size() * dim_);
      kept.push_back(static_cast<std::int64_t>(row));
    }
  auto next = std::make_shared<State>();
  if (!kept.empty())
    next->add(std::make_shared<const Segment>(Rows{vectors->data(), kept.size(), RowType::float32, vectors}, dim_,
                                              kernels(isa_).quantise));
  publish(std::move(next));
  return kept;
}

std::size_t Index::size() const { return state()->size; }
std::size_t Index::removed() const { return state()->num_removed; }

std::size_t Index::bytes() const {
  const auto now = state();
  std::size_t total = now->removed != nullptr ? now->removed->size() : 0;
  for (const auto& segment : now->segments) total += segment->bytes.size() + segment->scale.size() * sizeof(float);
  return total;
}

namespace {

// A query ready for scanning.
struct Prepared {
  std::vector<std::int8_t> bytes;
  std::int32_t correction = 0;
  float scale = 0;
  double norm = 0, rest = 0;

  Prepared(const Query& q, std::size_t dim, Quantise quantise) : bytes((dim + 3) / 4 * 4, 0) {
    const Quantised made = quantise(q.vector, dim, bytes.data());
    scale = made.scale;
    norm = made.norm;
    rest = made.rest;
    for (const std::int8_t b : bytes) correction += 128 * b;
  }

  // B of index.h for a segment, with room for the rounding of the lengths and of the approximate score itself.
  float bound(const Segment& segment) const {
    const double rounding = 1e-6 + 1.2e-7 * static_cast<double>(bytes.size());
    const double rows = segment.longest + segment.rest;
    return static_cast<float>((norm * segment.rest + rest * rows) * (1 + rounding) + 1e-6 * norm * rows) +
           std::numeric_limits<float>::min();
  }
};

// What one task keeps for one query in one segment.
struct Sieve {
  std::vector<Survivor> survivors;
  float threshold = kNothing;

  // Keep what can still be among the best k, and raise the threshold.
  void tighten(std::size_t k, float bound) {
    if (survivors.size() <= k) return;
    std::nth_element(survivors.begin(), survivors.begin() + static_cast<std::ptrdiff_t>(k - 1), survivors.end(),
                     [](const Survivor& a, const Survivor& b) { return a.score > b.score; });
    threshold = survivors[k - 1].score - 2 * bound;
    std::erase_if(survivors, [this](const Survivor& s) { return s.score < threshold; });
  }
};

}  // namespace

std::vector<std::vector<Hit>> Index::search(const std::vector<Query>& queries, std::size_t k,
                                            std::size_t threads) const {
  const auto now = state();
  std::vector<std::vector<Hit>> found(queries.size());
  if (k == 0 || now->size == 0 || queries.empty()) return found;
  const Kernels run = kernels(isa_);
  std::vector<Prepared> prepared;
  for (const Query& query : queries) prepared.emplace_back(query, dim_, run.quantise);

  // Tasks are contiguous runs of chunks of one segment; every task sieves for itself.
  struct Task {
    std::size_t segment, first, last;  // blocks
  };
  std::vector<Task> tasks;
  for (std::size_t s = 0; s < now->segments.size(); ++s) {
    const std::size_t blocks = now->segments[s]->blocks;
    const std::size_t share = std::max(kChunkBlocks, (blocks + threads - 1) / std::max<std::size_t>(threads, 1));
    for (std::size_t first = 0; first < blocks; first += share)
      tasks.push_back({s, first, std::min(first + share, blocks)});
  }
  const auto forbidden = [&](const Query& query, std::size_t row) {
    if (now->removed != nullptr && (*now->removed)[row] != 0) return true;
    if (query.allowed != nullptr && query.allowed[row] == 0) return true;
    return std::binary_search(query.excluded, query.excluded + query.num_excluded, static_cast<std::int64_t>(row));
  };
  const bool filtered = now->removed != nullptr || std::any_of(queries.begin(), queries.end(), [](const Query& q) {
                          return q.allowed != nullptr || q.num_excluded > 0;
                        });

  std::vector<std::vector<Sieve>> sieves(tasks.size(), std::vector<Sieve>(queries.size()));
  parallel_for(tasks.size(), threads, [&](std::size_t t) {
    const Task& task = tasks[t];
    const Segment& segment = *now->segments[task.segment];
    const std::size_t base = now->first[task.segment];
    for (std::size_t first = task.first; first < task.last; first += kChunkBlocks) {
      const std::size_t last = std::min(first + kChunkBlocks, task.last);
      for (std::size_t q = 0; q < prepared.size(); q += kQueryTile) {
        const std::size_t count = std::min(kQueryTile, prepared.size() - q);
        Probe probes[kQueryTile];
        std::size_t before[kQueryTile];
        for (std::size_t i = 0; i < count; ++i) {
          Sieve& sieve = sieves[t][q + i];
          const Prepared& p = prepared[q + i];
          probes[i] = {p.bytes.data(), p.correction, p.scale, sieve.threshold, &sieve.survivors};
          before[i] = sieve.survivors.size();
        }
        run.scan(segment.bytes.data(), segment.scale.data(), first, last, segment.groups, probes, count);
        for (std::size_t i = 0; i < count; ++i) {
          Sieve& sieve = sieves[t][q + i];
          // Only rows that may be found count towards the k-th best; the last block's padding never does.
          const auto fresh = sieve.survivors.begin() + static_cast<std::ptrdiff_t>(before[i]);
          sieve.survivors.erase(std::remove_if(fresh, sieve.survivors.end(),
                                               [&](const Survivor& s) {
                                                 return s.row >= segment.rows.count ||
                                                        (filtered && forbidden(queries[q + i], base + s.row));
                                               }),
                                sieve.survivors.end());
          if (sieve.survivors.size() >= 4 * k + 1024 || sieve.threshold == kNothing)
            sieve.tighten(k, prepared[q + i].bound(segment));
        }
      }
    }
  });

  parallel_for(queries.size(), threads, [&](std::size_t q) {
    struct Open {
      float most;  // no exact score is above it
      std::uint32_t row;
      std::size_t segment;
    };
    std::vector<Open> open;
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      const float bound = prepared[q].bound(*now->segments[tasks[t].segment]);
      sieves[t][q].tighten(k, bound);
      for (const Survivor& s : sieves[t][q].survivors) open.push_back({s.score + bound, s.row, tasks[t].segment});
    }
    std::sort(open.begin(), open.end(), [](const Open& a, const Open& b) { return a.most > b.most; });
    std::vector<float> row(dim_);
    std::vector<Hit>& hits = found[q];  // a heap with the worst on top once it holds k
    for (const Open& candidate : open) {
      if (hits.size() == k && candidate.most < hits.front().score) break;
      const Segment& segment = *now->segments[candidate.segment];
      read_row(segment.rows, dim_, candidate.row, row.data());
      double exact = 0;
      for (std::size_t i = 0; i < dim_; ++i) exact += static_cast<double>(row[i]) * queries[q].vector[i];
      hits.push_back(
          {static_cast<float>(exact), static_cast<std::int64_t>(now->first[candidate.segment] + candidate.row)});
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

}  // namespace xfast::retrieval
