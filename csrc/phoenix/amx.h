// Matrix products on AMX tiles, for the `linear` of bfloat16 and int8 weights; included only by files compiled for it.
//
// The packed layout is what a tile load wants: sixteen columns of a panel, a row of pairs or quads every 128 bytes. An
// output element is summed by one tile in ascending order of k, so a row does not depend on the rows beside it, and
// int8 sums are the exact integers of the other instruction sets.
//
// XFAST_AMX_EMULATION replaces the tile instructions by loops after Intel's description, so that the indexing is tested
// on processors without AMX.
#pragma once

#include <algorithm>
#include <cstring>

#include "phoenix/multiply.h"

#if !defined(XFAST_AMX_EMULATION)
#include <immintrin.h>
#endif

namespace xfast::phoenix::XFAST_ISA_NS {

#if defined(XFAST_AMX_EMULATION)

struct EmulatedTile {
  alignas(64) std::uint8_t bytes[16][64];
};
inline EmulatedTile* tiles() {
  thread_local EmulatedTile all[8];
  return all;
}
inline void emulate_load(int t, const void* base, std::size_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(tiles()[t].bytes[r], static_cast<const char*>(base) + r * stride, 64);
}
inline void emulate_store(int t, void* base, std::size_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(static_cast<char*>(base) + r * stride, tiles()[t].bytes[r], 64);
}
inline void emulate_bf16(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < 16; ++n) {
        std::uint16_t x[2], w[2];
        std::memcpy(x, tiles()[a].bytes[m] + 4 * k, 4);
        std::memcpy(w, tiles()[b].bytes[k] + 4 * n, 4);
        float sum;
        std::memcpy(&sum, tiles()[c].bytes[m] + 4 * n, 4);
        sum += from_bfloat16(x[0]) * from_bfloat16(w[0]);
        sum += from_bfloat16(x[1]) * from_bfloat16(w[1]);
        std::memcpy(tiles()[c].bytes[m] + 4 * n, &sum, 4);
      }
}
inline void emulate_int8(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < 16; ++n) {
        std::int32_t sum;
        std::memcpy(&sum, tiles()[c].bytes[m] + 4 * n, 4);
        for (int t = 0; t < 4; ++t)
          sum += tiles()[a].bytes[m][4 * k + t] * static_cast<std::int8_t>(tiles()[b].bytes[k][4 * n + t]);
        std::memcpy(tiles()[c].bytes[m] + 4 * n, &sum, 4);
      }
}
#define XFAST_TILE_ZERO(t) std::memset(tiles()[t].bytes, 0, sizeof tiles()[t].bytes)
#define XFAST_TILE_LOAD(t, base, stride) emulate_load(t, base, stride)
#define XFAST_TILE_STORE(t, base, stride) emulate_store(t, base, stride)
#define XFAST_TILE_BF16(c, a, b) emulate_bf16(c, a, b)
#define XFAST_TILE_INT8(c, a, b) emulate_int8(c, a, b)
inline void begin_tiles() {}
inline void end_tiles() {}

#else

#define XFAST_TILE_ZERO(t) _tile_zero(t)
#define XFAST_TILE_LOAD(t, base, stride) _tile_loadd(t, base, stride)
#define XFAST_TILE_STORE(t, base, stride) _tile_stored(t, base, stride)
#define XFAST_TILE_BF16(c, a, b) _tile_dpbf16ps(c, a, b)
#define XFAST_TILE_INT8(c, a, b) _tile_dpbusd(c, a, b)

// All eight tiles as 16 rows of 64 bytes. The configuration belongs to the thread and is released after every product,
// so that nobody else finds the processor in tile mode.
inline void begin_tiles() {
  struct alignas(64) Configuration {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static const Configuration configuration;
  // The tile instructions' operands are invisible to the compiler: what was stored before must be in memory.
  asm volatile("" ::: "memory");
  _tile_loadconfig(&configuration);
}
inline void end_tiles() {
  _tile_release();
  asm volatile("" ::: "memory");
}

#endif

// Two by two tiles: rows m .. m+31 of `a` (lda bytes apart, `steps` * 64 bytes each) times 32 columns of a panel.
#define XFAST_TILE_BLOCK(DOT, a, lda, panel, steps)                             \
  XFAST_TILE_ZERO(0);                                                           \
  XFAST_TILE_ZERO(1);                                                           \
  XFAST_TILE_ZERO(2);                                                           \
  XFAST_TILE_ZERO(3);                                                           \
  for (std::size_t k = 0; k < (steps); ++k) {                                   \
    XFAST_TILE_LOAD(4, (a) + k * 64, (lda));                                    \
    XFAST_TILE_LOAD(5, (a) + 16 * (lda) + k * 64, (lda));                       \
    XFAST_TILE_LOAD(6, (panel) + k * 16 * kPanelRowBytes, kPanelRowBytes);      \
    XFAST_TILE_LOAD(7, (panel) + k * 16 * kPanelRowBytes + 64, kPanelRowBytes); \
    DOT(0, 4, 6);                                                               \
    DOT(1, 4, 7);                                                               \
    DOT(2, 5, 6);                                                               \
    DOT(3, 5, 7);                                                               \
  }

constexpr std::size_t kPanelRowBytes = kPanel * 4;  // a row of pairs or quads of one panel
constexpr std::size_t kTileBlock = 32;              // rows and columns of one block of tiles

// The block's 32 x 32 sums, row by row, to `out`.
template <class T>
inline void store_tiles(T* out) {
  XFAST_TILE_STORE(0, out, kTileBlock * 4);
  XFAST_TILE_STORE(1, out + 16, kTileBlock * 4);
  XFAST_TILE_STORE(2, out + 16 * kTileBlock, kTileBlock * 4);
  XFAST_TILE_STORE(3, out + 16 * kTileBlock + 16, kTileBlock * 4);
#if !defined(XFAST_AMX_EMULATION)
  asm volatile("" ::: "memory");
#endif
}

// `a` has room for the rows rounded up to kTileBlock; what stands in the rows beyond is thrown away.
inline void tile_multiply(const std::uint16_t* a, std::size_t lda, std::size_t rows, const PackedMatrix& w,
                          std::size_t first, float* c, std::size_t ldc) {
  const std::size_t deep = round_up(w.rows, kDeepBfloat16), steps = deep / kDeepBfloat16;
  alignas(64) float sums[kTileBlock * kTileBlock];
  begin_tiles();
  for (std::size_t n = first; n < w.columns; n += kTileBlock) {
    const auto* panel = reinterpret_cast<const char*>(w.bf16.data() + n / kPanel * kPanel * deep);
    const std::size_t width = std::min(kTileBlock, w.columns - n);
    for (std::size_t m = 0; m < rows; m += kTileBlock) {
      const auto* block = reinterpret_cast<const char*>(a + m * lda);
      XFAST_TILE_BLOCK(XFAST_TILE_BF16, block, lda * 2, panel, steps)
      store_tiles(sums);
      for (std::size_t r = 0; r < std::min(kTileBlock, rows - m); ++r)
        std::memcpy(c + (m + r) * ldc + n, sums + r * kTileBlock, width * sizeof(float));
    }
  }
  end_tiles();
}

inline void tile_multiply(const std::uint8_t* a, std::size_t lda, std::size_t rows, const float* row_scale,
                          const PackedMatrix& w, std::size_t first, float* c, std::size_t ldc) {
  const std::size_t deep = round_up(w.rows, kDeepInt8), steps = deep / kDeepInt8;
  alignas(64) std::int32_t sums[kTileBlock * kTileBlock];
  begin_tiles();
  for (std::size_t n = first; n < w.columns; n += kTileBlock) {
    const auto* panel = reinterpret_cast<const char*>(w.int8.data() + n / kPanel * kPanel * deep);
    const std::size_t width = std::min(kTileBlock, w.columns - n);
    for (std::size_t m = 0; m < rows; m += kTileBlock) {
      const auto* block = reinterpret_cast<const char*>(a + m * lda);
      XFAST_TILE_BLOCK(XFAST_TILE_INT8, block, lda, panel, steps)
      store_tiles(sums);
      for (std::size_t r = 0; r < std::min(kTileBlock, rows - m); ++r)
        for (std::size_t j = 0; j < width; j += kLanes) {
          const IntVec total = load_int(sums + r * kTileBlock + j) - load_int(w.correction.data() + n + j);
          const Vec scale = splat(row_scale[m + r]) * load(w.scale.data() + n + j);
          store(c + (m + r) * ldc + n + j, __builtin_convertvector(total, Vec) * scale);
        }
    }
  }
  end_tiles();
}

}  // namespace xfast::phoenix::XFAST_ISA_NS
