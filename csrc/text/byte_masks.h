// 64 bytes of text at a glance: which belong to ASCII words, and which need the scalar tokenizer's care.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#define XFAST_TEXT_BYTE_MASKS 1
#endif

namespace xfast::text {

#if defined(XFAST_TEXT_BYTE_MASKS)

// Bit i speaks of byte i.
struct ByteMasks {
  std::uint64_t word = 0;  // ASCII letters and digits
  // Whatever may join words or start a unit: non-ASCII, '_', '#', '@', '$', and a '.', ',', ':', ';' or '\'' that has a
  // letter, digit, '/' or non-ASCII byte behind it.
  std::uint64_t care = 0;
};

// The masks of text[0, 64); where fewer bytes are left, the rest counts as zero bytes. SSE2 is part of x86-64, so this
// needs no dispatch.
inline ByteMasks byte_masks(const std::uint8_t* text, std::size_t left) {
  alignas(16) std::uint8_t tail[64];
  if (left < 64) {
    std::memset(tail, 0, sizeof tail);
    std::memcpy(tail, text, left);
    text = tail;
  }
  ByteMasks masks;
  std::uint64_t mid = 0, right = 0;
  const auto bits = [](__m128i lanes) { return static_cast<std::uint64_t>(_mm_movemask_epi8(lanes)); };
  // Lanes of `values` in [first, first + count).
  const auto in_range = [](__m128i values, char first, char count) {
    const __m128i shifted = _mm_sub_epi8(values, _mm_set1_epi8(first));
    return _mm_cmpeq_epi8(_mm_min_epu8(shifted, _mm_set1_epi8(static_cast<char>(count - 1))), shifted);
  };
  const auto equals = [](__m128i values, char c) { return _mm_cmpeq_epi8(values, _mm_set1_epi8(c)); };
  for (unsigned at = 0; at < 64; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + at));
    const __m128i letters = in_range(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 26);
    const __m128i word = _mm_or_si128(letters, in_range(bytes, '0', 10));
    // '#' and '$' are neighbours, ':' and ';' as well; ',' and '.' differ in one bit.
    const __m128i sigils = _mm_or_si128(in_range(bytes, '#', 2), equals(bytes, '@'));
    const __m128i mids = _mm_or_si128(_mm_or_si128(in_range(bytes, ':', 2), equals(bytes, '\'')),
                                      equals(_mm_and_si128(bytes, _mm_set1_epi8(~2)), ','));
    const std::uint64_t wide = bits(bytes);
    masks.word |= bits(word) << at;
    masks.care |= (wide | bits(_mm_or_si128(sigils, equals(bytes, '_')))) << at;
    mid |= bits(mids) << at;
    right |= (wide | bits(_mm_or_si128(word, equals(bytes, '/')))) << at;
  }
  masks.care |= mid & (right >> 1 | std::uint64_t{1} << 63);
  return masks;
}

#endif

}  // namespace xfast::text
