// Stored vectors: reading one as float32, and putting rows of several stores together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "retrieval/index.h"

namespace xfast::retrieval {

// Row `row` as float32.
void read_row(const Rows& rows, std::size_t dim, std::size_t row, float* out);

// Rows of one store, all of them or those without a mark.
struct Piece {
  const Posts* posts;
  const std::vector<std::uint8_t>* dropped;  // [rows] or null
};

// The rows of all pieces, in order, in memory of their own; in the type that all pieces have, else in float32.
Posts joined(const std::vector<Piece>& pieces, std::size_t dim);

}  // namespace xfast::retrieval
