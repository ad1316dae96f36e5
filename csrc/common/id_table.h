// What the small hash tables over columns of ids share: they live for one call, are filled once, and are half empty.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/flat_index.h"

namespace xfast {

// Slots for `count` ids: a power of two, at most half of them used.
inline std::uint64_t table_size(std::size_t count) {
  std::uint64_t capacity = 4;
  while (capacity < 2 * count) capacity *= 2;
  return capacity;
}

}  // namespace xfast
