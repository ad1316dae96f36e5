// Exact top-k by dot product: an int8 scan that cannot lose a row, then the exact score of what is left.
//
// A row c is kept as s * q with bytes q, a query u as t * p. From c = s q + e and u = t p + f,
//     |u.c - s t (p.q)|  <=  |u| |e| + |f| (|c| + |e|)  =  B.
// If k rows that may be found have approximate scores of at least a, the k-th best exact score is at least a - B, and a
// row whose approximate score is below a - 2 B is not among the best k. Everything else is scored from its stored
// vector in double precision. Memory read per search: one byte per number, and the few rows that survive.
//
// The rows live in segments that never change, listed in a state that never changes; a writer publishes a new list. A
// search takes the list once, so it sees one moment of the corpus whatever writers do meanwhile. docs/retrieval.md has
// the proof with its roundings, and the measurements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "common/cpu.h"

namespace xfast::retrieval {

enum class RowType { float32, float16, bfloat16, int8 };

// Vectors that somebody else keeps: a memory-mapped corpus, or an array.
struct Rows {
  const void* data = nullptr;  // may be unaligned
  std::size_t count = 0;
  RowType type = RowType::float32;
  const float* scale = nullptr;       // [count], int8 only
  std::shared_ptr<const void> owner;  // released when no search and no segment needs the rows
};

// Rows with what they stand for.
struct Posts {
  Rows vectors;
  std::vector<std::uint64_t> post_ids, author_ids;  // [count]
  std::vector<std::int64_t> topics;                 // [count * topics_per_row], 0 = none
  std::size_t topics_per_row = 0;
};

struct Segment;  // quantised rows that never change

// Conditions on what may be found, the same for all queries of a search.
struct Filter {
  std::vector<std::uint64_t> excluded;  // post ids, any order
  bool by_topic = false;
  std::vector<std::int64_t> topics;  // with by_topic: only rows that carry one of these; 0 is no topic
};

struct Hit {
  float score;
  std::int64_t row;
  std::uint64_t post_id, author_id;
};

// The rows that are left, in order.
struct Contents {
  std::vector<float> vectors;  // [count * dim], or none
  std::vector<std::uint64_t> post_ids, author_ids;
  std::vector<std::int64_t> topics;  // [count * topics_per_row]
  std::size_t topics_per_row = 0;
};

class Index {
 public:
  // `threads` quantise rows.
  Index(std::size_t dim, Isa isa, std::size_t threads);

  // Adds rows behind the existing ones; searches under way do not see them. Small segments are merged on the way, so
  // that a corpus that grows by a few posts at a time stays a few segments. Throws std::invalid_argument for a vector
  // that is not finite, and adds nothing.
  void append(Posts posts);

  // Marks the rows of these posts and these authors: later searches skip them. Returns how many were marked now.
  std::size_t remove(std::vector<std::uint64_t> post_ids, std::vector<std::uint64_t> author_ids);

  // Rewrites the segments that hold removed rows without them; the order of rows stays, their numbers change.
  // Returns how many rows went.
  std::size_t compact();

  std::size_t dim() const { return dim_; }
  std::size_t size() const;  // rows, removed ones included
  std::size_t removed() const;
  std::size_t segments() const;
  std::size_t bytes() const;  // quantised rows, ids and marks; not the rows that others keep

  // Best k of every query [count, dim], best first, equal scores by row; fewer than k where fewer rows remain. Rows
  // before `first_row` are not looked at. Any number of threads may search while others append, remove or compact.
  std::vector<std::vector<Hit>> search(const float* queries, std::size_t count, std::size_t k, const Filter& filter,
                                       std::size_t threads, std::size_t first_row = 0) const;

  // What `search` would answer if these rows were the corpus: exact scores, the filter, the order. For rows that an
  // approximate index proposes; numbers outside [0, size) are ignored.
  std::vector<Hit> rank(const float* query, const std::int64_t* rows, std::size_t count, std::size_t k,
                        const Filter& filter) const;

  Contents contents(bool with_vectors) const;

 private:
  struct Part;
  struct State;
  std::shared_ptr<const State> state() const;
  void publish(std::shared_ptr<const State> next);

  std::size_t dim_;
  Isa isa_;
  std::size_t threads_;
  mutable std::mutex pointer_;  // held for a pointer copy only
  std::mutex writer_;
  std::shared_ptr<const State> state_;
};

}  // namespace xfast::retrieval
