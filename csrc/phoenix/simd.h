// Fixed-width float vectors and the elementary functions that the engine needs, written once for every instruction set.
//
// Included only by files that are compiled per instruction set. Compiler vectors (GCC and Clang) give the arithmetic;
// only the fused multiply-add is an intrinsic. Every lane does the same operations in the same order whatever its
// place, which is what makes an element's value independent of its neighbours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace xfast::phoenix::XFAST_ISA_NS {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t IntVec __attribute__((vector_size(kLanes * 4)));
typedef float LooseVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef std::int32_t LooseIntVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
inline IntVec load_int(const void* p) { return *reinterpret_cast<const LooseIntVec*>(p); }
inline Vec splat(float x) { return Vec{} + x; }
inline IntVec splat_int(std::int32_t x) { return IntVec{} + x; }
inline Vec as_float(IntVec v) { return reinterpret_cast<Vec>(v); }
inline IntVec as_int(Vec v) { return reinterpret_cast<IntVec>(v); }
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec min(Vec a, Vec b) { return a < b ? a : b; }
inline Vec abs(Vec a) { return as_float(as_int(a) & 0x7fffffff); }

// a * b + c with one rounding where the instruction set has it.
inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// Halving tree, the same for every caller.
inline float sum(Vec v) {
  alignas(64) float lane[kLanes];
  std::memcpy(lane, &v, sizeof lane);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  return lane[0];
}

inline float largest(Vec v) {
  alignas(64) float lane[kLanes];
  std::memcpy(lane, &v, sizeof lane);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
  return lane[0];
}

// Nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 pushes the fraction out of the mantissa.
inline Vec nearest(Vec x) {
  const Vec magic = splat(12582912.0f);
  return (x + magic) - magic;
}

// 2^n for integral n in [-126, 127].
inline Vec power_of_two(Vec n) { return as_float((__builtin_convertvector(n, IntVec) + 127) << 23); }

// exp(r) - 1 for |r| <= ln(2)/2: the Taylor sum to r^7 leaves a relative error below 6e-9.
inline Vec expm1_reduced(Vec r) {
  Vec p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  return fma(p, r * r, r);
}

struct Reduced {
  Vec remainder;  // x - n ln 2, in two steps so that it keeps its last bits
  Vec exponent;   // n
};

inline Reduced reduce(Vec x) {
  const Vec n = nearest(x * 1.44269504088896341f);
  // ln 2 = 0.693145751953125 + 1.42860677...e-6; the first part has 15 bits, so n times it is exact.
  Vec r = fma(n, splat(-0.693145751953125f), x);
  return {fma(n, splat(-1.42860677e-6f), r), n};
}

// Relative error below 2.5e-7 on [-87, 88]; inputs outside are clamped to that range.
inline Vec exp(Vec x) {
  const auto [r, n] = reduce(min(max(x, splat(-87.0f)), splat(88.0f)));
  return (expm1_reduced(r) + 1.0f) * power_of_two(n);
}

// tanh(x) = m / (m + 2), m = exp(2x) - 1 without cancellation; relative error below 4e-7.
inline Vec tanh(Vec x) {
  const auto [r, n] = reduce(min(max(x + x, splat(-20.0f)), splat(20.0f)));
  const Vec scale = power_of_two(n);
  const Vec m = fma(expm1_reduced(r), scale, scale - 1.0f);
  return m / (m + 2.0f);
}

inline Vec sigmoid(Vec x) { return splat(1.0f) / (exp(-x) + 1.0f); }

// The tanh approximation of gelu: x * sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
inline Vec gelu(Vec x) {
  const Vec u2 = (x * 1.5957691216057308f) * fma(x * x, splat(0.044715f), splat(1.0f));
  return x * sigmoid(u2);
}

}  // namespace xfast::phoenix::XFAST_ISA_NS
