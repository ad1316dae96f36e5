// Matrix products of a few rows with a packed matrix; included only by files compiled per instruction set.
//
// An output element is summed over k in ascending order by one accumulator, whatever the number of rows in the call: a
// row's result does not depend on the rows beside it.
#pragma once

#include <algorithm>

#include "phoenix/packed.h"
#include "phoenix/simd.h"

namespace xfast::phoenix::XFAST_ISA_NS {

// Rows of one register block (with two vectors of columns each), from the number of vector registers: 32 (AVX-512,
// arm64) or 16.
#if defined(__AVX512F__)
constexpr int kRows = 12;
#elif defined(__AVX2__)
constexpr int kRows = 6;
#elif defined(__aarch64__)
constexpr int kRows = 12;
#else
constexpr int kRows = 4;
#endif

// A packed operand: element group (k, n) stands at data[n / kPanel * panel_stride + k * row_stride + n % kPanel *
// group].
template <class T>
struct Panels {
  const T* data;
  std::size_t panel_stride;
  std::size_t row_stride;
  std::size_t groups;   // inputs, in groups of 1 (float), 2 (bfloat16) or 4 (int8)
  std::size_t columns;  // a multiple of kColumns
};

inline Panels<float> float_panels(const PackedMatrix& m) {
  return {m.f32.data(), m.rows * kPanel, kPanel, m.rows, m.columns};
}
inline Panels<std::uint16_t> bfloat16_panels(const PackedMatrix& m) {
  return {m.bf16.data(), round_up(m.rows, kDeepBfloat16) * kPanel, 2 * kPanel, (m.rows + 1) / 2, m.columns};
}
inline Panels<std::int8_t> int8_panels(const PackedMatrix& m) {
  return {m.int8.data(), round_up(m.rows, kDeepInt8) * kPanel, 4 * kPanel, (m.rows + 3) / 4, m.columns};
}

template <int R, int V>
inline void load_block(Vec (&acc)[R][V], const float* c, std::size_t ldc) {
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) acc[r][v] = load(c + r * ldc + v * kLanes);
}

// --- float32 ---------------------------------------------------------------------------------------------------------
struct FloatBlock {
  template <int R, int V>
  static void run(const float* a, std::size_t lda, const float* b, std::size_t ldb, std::size_t count, float* c,
                  std::size_t ldc, bool resume) {
    Vec acc[R][V] = {};
    if (resume) load_block(acc, c, ldc);
    for (std::size_t k = 0; k < count; ++k, b += ldb) {
      Vec w[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) w[v] = load(b + v * kLanes);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const Vec x = splat(a[r * lda + k]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[r][v] = fma(x, w[v], acc[r][v]);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
  }
};

// --- bfloat16 pairs, float accumulators ------------------------------------------------------------------------------
struct Bfloat16Block {
  template <int R, int V>
  static void run(const std::uint16_t* a, std::size_t lda, const std::uint16_t* b, std::size_t ldb, std::size_t count,
                  float* c, std::size_t ldc, bool resume) {
    Vec acc[R][V] = {};
    if (resume) load_block(acc, c, ldc);
    for (std::size_t k = 0; k < count; ++k, b += ldb) {
      IntVec w[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) w[v] = load_int(b + 2 * v * kLanes);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        std::int32_t pair;
        std::memcpy(&pair, a + r * lda + 2 * k, 4);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
#if defined(__AVX512BF16__)
          acc[r][v] = _mm512_dpbf16_ps(acc[r][v], reinterpret_cast<__m512bh>(splat_int(pair)),
                                       reinterpret_cast<__m512bh>(w[v]));
#else
          const Vec low = as_float(splat_int(pair) << 16), high = as_float(splat_int(pair) & ~0xffff);
          acc[r][v] = fma(low, as_float(w[v] << 16), acc[r][v]);
          acc[r][v] = fma(high, as_float(w[v] & ~0xffff), acc[r][v]);
#endif
        }
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
  }
};

// --- int8 quads, exact int32 accumulators ----------------------------------------------------------------------------

// Four unsigned activations times four signed weights per lane, added to acc.
struct QuadSum {
#if defined(__AVX512F__)
  IntVec acc = {};
  void add(std::int32_t activations, const std::int8_t* weights) {
    acc = reinterpret_cast<IntVec>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(acc), _mm512_set1_epi32(activations),
                                                       _mm512_loadu_si512(weights)));
  }
  IntVec total(const std::int32_t* correction) const { return acc - load_int(correction); }
#elif defined(__ARM_FEATURE_DOTPROD)
  // Both factors signed: the activations lose their 128 here, so there is nothing to correct.
  IntVec acc = {};
  void add(std::int32_t activations, const std::int8_t* weights) {
    const int8x16_t a = vreinterpretq_s8_s32(vdupq_n_s32(activations ^ static_cast<std::int32_t>(0x80808080)));
    acc = vdotq_s32(acc, a, vld1q_s8(weights));
  }
  IntVec total(const std::int32_t*) const { return acc; }
#elif defined(__AVX2__)
  // madd of 16-bit words is exact; maddubs would saturate.
  __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
  void add(std::int32_t activations, const std::int8_t* weights) {
    const __m256i a = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(activations)));
    const auto half = [&](int i) {
      return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + 16 * i)));
    };
    low = _mm256_add_epi32(low, _mm256_madd_epi16(a, half(0)));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(a, half(1)));
  }
  IntVec total(const std::int32_t* correction) const {
    return reinterpret_cast<IntVec>(_mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0b11011000)) -
           load_int(correction);
  }
#else
  IntVec acc = {};
  void add(std::int32_t activations, const std::int8_t* weights) {
    std::uint8_t a[4];
    std::memcpy(a, &activations, 4);
    for (int lane = 0; lane < kLanes; ++lane)
      for (int t = 0; t < 4; ++t) acc[lane] += a[t] * weights[4 * lane + t];
  }
  IntVec total(const std::int32_t* correction) const { return acc - load_int(correction); }
#endif
};

struct Int8Block {
#if defined(__AVX512F__) || defined(__ARM_FEATURE_DOTPROD)
  static constexpr int kRowsOfBlock = 12;
#elif defined(__AVX2__)
  static constexpr int kRowsOfBlock = 3;
#else
  static constexpr int kRowsOfBlock = 2;
#endif
  template <int R, int V>
  static void run(const std::uint8_t* a, std::size_t lda, const std::int8_t* b, std::size_t ldb, std::size_t count,
                  const float* row_scale, const float* column_scale, const std::int32_t* correction, float* c,
                  std::size_t ldc) {
    QuadSum acc[R][V];
    for (std::size_t k = 0; k < count; ++k, b += ldb)
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        std::int32_t quad;
        std::memcpy(&quad, a + r * lda + 4 * k, 4);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) acc[r][v].add(quad, b + 4 * v * kLanes);
      }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const IntVec total = acc[r][v].total(correction + v * kLanes);
        const Vec scale = splat(row_scale[r]) * load(column_scale + v * kLanes);
        store(c + r * ldc + v * kLanes, __builtin_convertvector(total, Vec) * scale);
      }
  }
};

// --- all rows and columns --------------------------------------------------------------------------------------------

// Calls visit(integral_constant R, first row) for full blocks of Max rows and one smaller block at the end.
template <int Max, class Visit>
inline void for_row_blocks(std::size_t rows, Visit visit) {
  std::size_t row = 0;
  for (; row + Max <= rows; row += Max) visit(std::integral_constant<int, Max>{}, row);
  const auto rest = static_cast<int>(rows - row);
  [&]<int... R>(std::integer_sequence<int, R...>) {
    ((rest == R + 1 ? visit(std::integral_constant<int, R + 1>{}, row) : void()), ...);
  }(std::make_integer_sequence<int, Max - 1>{});
}

// Calls visit(integral_constant V, first column) so that the columns are covered by blocks of two vectors, then one.
template <class Visit>
inline void for_column_blocks(std::size_t columns, Visit visit) {
  std::size_t column = 0;
  for (; column + 2 * kLanes <= columns; column += 2 * kLanes) visit(std::integral_constant<int, 2>{}, column);
  for (; column < columns; column += kLanes) visit(std::integral_constant<int, 1>{}, column);
}

template <class Block, class T, class A>
inline void multiply(const A* a, std::size_t lda, std::size_t rows, const Panels<T>& b, float* c, std::size_t ldc,
                     bool resume) {
  constexpr std::size_t group = 4 / sizeof(T);
  for_column_blocks(b.columns, [&](auto v, std::size_t n) {
    const T* panel = b.data + n / kPanel * b.panel_stride + n % kPanel * group;
    for_row_blocks<kRows>(rows, [&](auto r, std::size_t m) {
      Block::template run<r.value, v.value>(a + m * lda, lda, panel, b.row_stride, b.groups, c + m * ldc + n, ldc,
                                            resume);
    });
  });
}

// With `resume` the products are added to what c holds, as if the sums had never been interrupted.
inline void multiply(const float* a, std::size_t lda, std::size_t rows, const Panels<float>& b, float* c,
                     std::size_t ldc, bool resume = false) {
  multiply<FloatBlock>(a, lda, rows, b, c, ldc, resume);
}

inline void multiply(const std::uint16_t* a, std::size_t lda, std::size_t rows, const Panels<std::uint16_t>& b,
                     float* c, std::size_t ldc, bool resume = false) {
  multiply<Bfloat16Block>(a, lda, rows, b, c, ldc, resume);
}

// From column `first`, a multiple of kPanel, on.
inline void multiply(const std::uint8_t* a, std::size_t lda, std::size_t rows, const float* row_scale,
                     const PackedMatrix& w, std::size_t first, float* c, std::size_t ldc) {
  const Panels<std::int8_t> b = int8_panels(w);
  for_column_blocks(b.columns - first, [&](auto v, std::size_t offset) {
    const std::size_t n = first + offset;
    const std::int8_t* panel = b.data + n / kPanel * b.panel_stride + n % kPanel * 4;
    for_row_blocks<Int8Block::kRowsOfBlock>(rows, [&](auto r, std::size_t m) {
      Int8Block::run<r.value, v.value>(a + m * lda, lda, panel, b.row_stride, b.groups, row_scale + m,
                                       w.scale.data() + n, w.correction.data() + n, c + m * ldc + n, ldc);
    });
  });
}

// --- activations to the operand's type -------------------------------------------------------------------------------

// Rows of floats (`width` valid, the rest up to a multiple of two zero) to bfloat16, nearest even.
inline void to_bfloat16_rows(const float* x, std::size_t ldx, std::size_t rows, std::size_t width, std::uint16_t* out,
                             std::size_t ldo) {
  for (std::size_t r = 0; r < rows; ++r) {
    std::size_t k = 0;
    for (; k + kLanes <= width; k += kLanes) store_bfloat16(out + r * ldo + k, load(x + r * ldx + k));
    for (; k < width; ++k) out[r * ldo + k] = to_bfloat16(x[r * ldx + k]);
    for (; k < ldo; ++k) out[r * ldo + k] = 0;
  }
}

// Rows of floats to unsigned bytes q + 128, q = round(127 x / max|x|); from `width` to ldo they stand for zero.
inline void to_bytes_rows(const float* x, std::size_t ldx, std::size_t rows, std::size_t width, std::uint8_t* out,
                          std::size_t ldo, float* scale) {
  for (std::size_t r = 0; r < rows; ++r) {
    const float* row = x + r * ldx;
    Vec top = {};
    std::size_t k = 0;
    for (; k + kLanes <= width; k += kLanes) top = max(top, abs(load(row + k)));
    float most = largest(top);
    for (; k < width; ++k) most = std::max(most, row[k] < 0 ? -row[k] : row[k]);
    scale[r] = most / 127.0f;
    const float inverse = most > 1e-30f ? 127.0f / most : 0.0f;  // 127 / most must be finite
    for (k = 0; k + kLanes <= width; k += kLanes) {
      store_bytes(out + r * ldo + k, __builtin_convertvector(nearest(load(row + k) * inverse), IntVec) + 128);
    }
    for (; k < width; ++k) out[r * ldo + k] = static_cast<std::uint8_t>(nearest(splat(row[k] * inverse))[0] + 128.0f);
    for (; k < ldo; ++k) out[r * ldo + k] = 128;
  }
}

}  // namespace xfast::phoenix::XFAST_ISA_NS
