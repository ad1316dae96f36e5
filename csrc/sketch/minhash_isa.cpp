// Compiled once per instruction set.
#if defined(XFAST_ISA_avx2) || defined(XFAST_ISA_avx512)
#include <immintrin.h>
#endif

#include "sketch/minhash_kernels.h"
#include "sketch/mix.h"

namespace xfast::sketch::XFAST_ISA_NS {

void mix_xor(const std::uint64_t* in, std::size_t count, std::uint64_t flip, std::uint64_t* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = mix64(in[i] ^ flip);
}

void mix_add(const std::uint64_t* in, std::size_t count, std::uint64_t step, std::uint64_t* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = mix64(in[i] + step);
}

std::uint64_t largest(const std::uint64_t* values, std::size_t count) {
  // std::max_element returns a place and is therefore not vectorised.
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < count; ++i) most = values[i] > most ? values[i] : most;
  return most;
}

void equal_positions(const std::uint32_t* one, const std::uint32_t* column, std::size_t rows, std::size_t positions,
                     std::uint32_t* counts) {
  for (std::size_t row = 0; row < rows; ++row, column += positions) {
    std::size_t k = 0;
    std::uint32_t count = 0;
#if defined(XFAST_ISA_avx512)
    // Two 16-bit masks per population count.
    for (; k + 32 <= positions; k += 32) {
      const __mmask16 low = _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(one + k), _mm512_loadu_si512(column + k));
      const __mmask16 high =
          _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(one + k + 16), _mm512_loadu_si512(column + k + 16));
      count += static_cast<std::uint32_t>(__builtin_popcount(static_cast<std::uint32_t>(high) << 16 | low));
    }
#elif defined(XFAST_ISA_avx2)
    __m256i sums = _mm256_setzero_si256();  // minus the number of equal positions, lane by lane
    for (; k + 8 <= positions; k += 8) {
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(one + k));
      const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(column + k));
      sums = _mm256_sub_epi32(sums, _mm256_cmpeq_epi32(a, b));
    }
    alignas(32) std::uint32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sums);
    for (const std::uint32_t lane : lanes) count += lane;
#endif
    for (; k < positions; ++k) count += one[k] == column[k];
    counts[row] = count;
  }
}

}  // namespace xfast::sketch::XFAST_ISA_NS
