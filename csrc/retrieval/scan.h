// The scan's inner loop, compiled per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace xfast::retrieval {

constexpr std::size_t kBlockRows = 16;  // rows interleaved in groups of four numbers
constexpr std::size_t kQueryTile = 4;   // queries that share one read of a block

// A row that may be among the best.
struct Survivor {
  float score;        // approximate
  std::uint32_t row;  // in its segment
};

// One query in a scan of one segment.
struct Probe {
  const std::int8_t* bytes;  // [groups * 4]
  std::int32_t correction;   // 128 * sum of bytes: rows travel as unsigned bytes
  float scale;               // t
  float threshold;           // approximate scores below it are out
  std::vector<Survivor>* survivors;
};

// Scores blocks [first, last) of rows for `count` <= kQueryTile probes. Block layout: [groups][kBlockRows][4] bytes,
// each 128 more than the number it stands for; row_scale has kBlockRows entries per block.
using Scan = void (*)(const std::uint8_t* blocks, const float* row_scale, std::size_t first, std::size_t last,
                      std::size_t groups, Probe* probes, std::size_t count);

// x = scale * bytes + rest. `bytes` has room for dim rounded up to a multiple of four.
struct Quantised {
  float scale;
  float norm;  // |x|
  float rest;  // |rest|; both within a relative error of dim * 2^-24
};
using Quantise = Quantised (*)(const float* x, std::size_t dim, std::int8_t* bytes);

#define XFAST_DECLARE(level)                                                                                \
  namespace level {                                                                                         \
  void scan(const std::uint8_t*, const float*, std::size_t, std::size_t, std::size_t, Probe*, std::size_t); \
  Quantised quantise(const float*, std::size_t, std::int8_t*);                                              \
  }
XFAST_DECLARE(scalar)
XFAST_DECLARE(avx2)
XFAST_DECLARE(avx512)
#undef XFAST_DECLARE

}  // namespace xfast::retrieval
