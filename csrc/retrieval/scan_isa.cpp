#include <algorithm>
#include <cmath>
#include <cstring>

#include "retrieval/scan.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace xfast::retrieval::XFAST_ISA_NS {
namespace {

// Sixteen rows' integer dot products with one query: add one group of four numbers per row at a time.
struct Sums {
#if defined(__AVX512F__)
  __m512i sum = _mm512_setzero_si512();
  void add(const std::uint8_t* rows, std::int32_t query) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(rows), _mm512_set1_epi32(query));
  }
  void merge(const Sums& other) { sum = _mm512_add_epi32(sum, other.sum); }
  // Approximate scores to `out`; bit i tells that row i reaches the threshold.
  std::uint32_t scores(const Probe& probe, const float* row_scale, float* out) const {
    const __m512i dot = _mm512_sub_epi32(sum, _mm512_set1_epi32(probe.correction));
    const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(row_scale), _mm512_set1_ps(probe.scale));
    const __m512 score = _mm512_mul_ps(__builtin_convertvector(reinterpret_cast<__v16si>(dot), __v16sf), scale);
    _mm512_storeu_ps(out, score);
    return _mm512_cmp_ps_mask(score, _mm512_set1_ps(probe.threshold), _CMP_GE_OQ);
  }
#elif defined(__AVX2__)
  // Products of 16-bit words are exact; the byte product would saturate. Even and odd pairs are summed at the end.
  __m256i sum[4] = {};
  void add(const std::uint8_t* rows, std::int32_t query) {
    const __m256i q = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(query)));
    for (int i = 0; i < 4; ++i) {
      const __m256i r = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + 16 * i)));
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(r, q));
    }
  }
  void merge(const Sums& other) {
    for (int i = 0; i < 4; ++i) sum[i] = _mm256_add_epi32(sum[i], other.sum[i]);
  }
  std::uint32_t scores(const Probe& probe, const float* row_scale, float* out) const {
    std::uint32_t mask = 0;
    for (int half = 0; half < 2; ++half) {
      const __m256i pairs = _mm256_hadd_epi32(sum[2 * half], sum[2 * half + 1]);
      const __m256i dot =
          _mm256_sub_epi32(_mm256_permute4x64_epi64(pairs, 0b11011000), _mm256_set1_epi32(probe.correction));
      const __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(row_scale + 8 * half), _mm256_set1_ps(probe.scale));
      const __m256 score = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale);
      _mm256_storeu_ps(out + 8 * half, score);
      const __m256 reached = _mm256_cmp_ps(score, _mm256_set1_ps(probe.threshold), _CMP_GE_OQ);
      mask |= static_cast<std::uint32_t>(_mm256_movemask_ps(reached)) << (8 * half);
    }
    return mask;
  }
#else
  std::int32_t sum[kBlockRows] = {};
  void add(const std::uint8_t* rows, std::int32_t query) {
    std::int8_t q[4];
    std::memcpy(q, &query, 4);
    for (std::size_t r = 0; r < kBlockRows; ++r)
      sum[r] += rows[4 * r] * q[0] + rows[4 * r + 1] * q[1] + rows[4 * r + 2] * q[2] + rows[4 * r + 3] * q[3];
  }
  void merge(const Sums& other) {
    for (std::size_t r = 0; r < kBlockRows; ++r) sum[r] += other.sum[r];
  }
  std::uint32_t scores(const Probe& probe, const float* row_scale, float* out) const {
    std::uint32_t mask = 0;
    for (std::size_t r = 0; r < kBlockRows; ++r) {
      out[r] = static_cast<float>(sum[r] - probe.correction) * (row_scale[r] * probe.scale);
      mask |= static_cast<std::uint32_t>(out[r] >= probe.threshold) << r;
    }
    return mask;
  }
#endif
};

void keep(const Sums& sums, const float* row_scale, std::size_t block, Probe& probe) {
  alignas(64) float score[kBlockRows];
  std::uint32_t mask = sums.scores(probe, row_scale + block * kBlockRows, score);
  for (; mask != 0; mask &= mask - 1) {
    const auto row = static_cast<std::uint32_t>(__builtin_ctz(mask));
    probe.survivors->push_back({score[row], static_cast<std::uint32_t>(block * kBlockRows) + row});
  }
}

std::int32_t group_of(const Probe& probe, std::size_t g) {
  std::int32_t four;
  std::memcpy(&four, probe.bytes + 4 * g, 4);
  return four;
}

// One query: four independent chains hide the latency of the dot product.
void scan_one(const std::uint8_t* blocks, const float* row_scale, std::size_t first, std::size_t last,
              std::size_t groups, Probe& probe) {
  constexpr std::size_t kBytes = kBlockRows * 4;
  for (std::size_t block = first; block < last; ++block) {
    const std::uint8_t* p = blocks + block * groups * kBytes;
    Sums chain[4];
    std::size_t g = 0;
    for (; g + 4 <= groups; g += 4)
      for (std::size_t c = 0; c < 4; ++c) chain[c].add(p + (g + c) * kBytes, group_of(probe, g + c));
    for (; g < groups; ++g) chain[0].add(p + g * kBytes, group_of(probe, g));
    chain[0].merge(chain[1]);
    chain[2].merge(chain[3]);
    chain[0].merge(chain[2]);
    keep(chain[0], row_scale, block, probe);
  }
}

void scan_four(const std::uint8_t* blocks, const float* row_scale, std::size_t first, std::size_t last,
               std::size_t groups, Probe* probes) {
  constexpr std::size_t kBytes = kBlockRows * 4;
  for (std::size_t block = first; block < last; ++block) {
    const std::uint8_t* p = blocks + block * groups * kBytes;
    Sums sums[kQueryTile];
    for (std::size_t g = 0; g < groups; ++g)
      for (std::size_t q = 0; q < kQueryTile; ++q) sums[q].add(p + g * kBytes, group_of(probes[q], g));
    for (std::size_t q = 0; q < kQueryTile; ++q) keep(sums[q], row_scale, block, probes[q]);
  }
}

}  // namespace

void scan(const std::uint8_t* blocks, const float* row_scale, std::size_t first, std::size_t last, std::size_t groups,
          Probe* probes, std::size_t count) {
  if (count == kQueryTile) return scan_four(blocks, row_scale, first, last, groups, probes);
  for (std::size_t q = 0; q < count; ++q) scan_one(blocks, row_scale, first, last, groups, probes[q]);
}

Quantised quantise(const float* x, std::size_t dim, std::int8_t* bytes) {
  float top = 0;
#pragma omp simd reduction(max : top)
  for (std::size_t i = 0; i < dim; ++i) top = std::max(top, std::fabs(x[i]));
  // A subnormal scale would overflow its inverse; such a vector counts as zero, and the rest says so.
  const float scale = top > 1e-30f ? top / 127 : 0.0f, inverse = scale > 0 ? 127 / top : 0.0f;
  float squares = 0, rest = 0;
#pragma omp simd reduction(+ : squares, rest)
  for (std::size_t i = 0; i < dim; ++i) {
    const float rounded = std::nearbyint(x[i] * inverse);
    const float e = x[i] - scale * rounded;
    bytes[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(rounded));
    squares += x[i] * x[i];
    rest += e * e;
  }
  return {scale, std::sqrt(squares), std::sqrt(rest)};
}

}  // namespace xfast::retrieval::XFAST_ISA_NS
