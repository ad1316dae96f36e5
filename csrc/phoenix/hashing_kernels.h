// The per-instruction-set entry points of hashing_isa.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "phoenix/hashing.h"

#define XFAST_DECLARE(level)                                                                                    \
  namespace xfast::phoenix::level {                                                                             \
  void hash_column(const std::int64_t* ids, std::size_t count, const HashFunction& function, std::int32_t* out, \
                   std::size_t stride);                                                                         \
  }
XFAST_DECLARE(scalar)
XFAST_DECLARE(avx2)
XFAST_DECLARE(avx512)
#undef XFAST_DECLARE
