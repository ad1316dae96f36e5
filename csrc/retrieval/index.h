// Exact top-k by dot product: an int8 scan that cannot lose a row, then the exact score of what is left.
//
// A row c is kept as s * q with bytes q, a query u as t * p. From c = s q + e and u = t p + f,
//     |u.c - s t (p.q)|  <=  |u| |e| + |f| (|c| + |e|)  =  B.
// A row whose approximate score is more than 2 B below the k-th best approximate score is not among the best k;
// everything else is scored from its stored vector in double precision. Memory read per search: one byte per number,
// and the few rows that survive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "common/cpu.h"

namespace xfast::retrieval {

enum class RowType { float32, float16, bfloat16 };

// Vectors that somebody else keeps: a memory-mapped corpus, or an array.
struct Rows {
  const void* data = nullptr;
  std::size_t count = 0;
  RowType type = RowType::float32;
  std::shared_ptr<const void> owner;  // released when no search and no segment needs the rows
};

struct Segment;  // quantised rows that never change

struct Query {
  const float* vector = nullptr;           // [dim]
  const std::int64_t* excluded = nullptr;  // ascending row numbers
  std::size_t num_excluded = 0;
  const std::uint8_t* allowed = nullptr;  // [size] or null: rows that may be found
};

struct Hit {
  float score;
  std::int64_t row;
};

class Index {
 public:
  Index(std::size_t dim, Isa isa);

  // Adds rows behind the existing ones; searches under way do not see them.
  void append(const Rows& rows);

  // Marks rows so that later searches skip them. Throws std::out_of_range for a row that does not exist.
  void remove(const std::int64_t* rows, std::size_t count);

  // Rewrites all segments as one without the removed rows; returns the old number of every new row.
  std::vector<std::int64_t> compact();

  std::size_t dim() const { return dim_; }
  std::size_t size() const;  // rows, removed ones included
  std::size_t removed() const;
  std::size_t bytes() const;  // quantised rows and marks; not the rows that others keep

  // Best k of every query, best first, equal scores by row; fewer than k where fewer rows remain. Any number of threads
  // may search while one appends, removes or compacts.
  std::vector<std::vector<Hit>> search(const std::vector<Query>& queries, std::size_t k, std::size_t threads) const;

 private:
  struct State;
  std::shared_ptr<const State> state() const;
  void publish(std::shared_ptr<const State> next);

  std::size_t dim_;
  Isa isa_;
  mutable std::mutex pointer_;  // held for a pointer copy only
  std::mutex writer_;
  std::shared_ptr<const State> state_;
};

}  // namespace xfast::retrieval
