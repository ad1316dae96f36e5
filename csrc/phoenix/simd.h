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
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace xfast::phoenix::XFAST_ISA_NS {

constexpr float kSoftCap = 30.0f;  // attention logits, PHOENIX §3.3

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
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

// Halving trees: lane i joins lane i + width / 2, and so on.
inline float sum(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(v);
#else
  alignas(64) float lane[kLanes];
  std::memcpy(lane, &v, sizeof lane);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  return lane[0];
#endif
}

inline float largest(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(v);
#else
  alignas(64) float lane[kLanes];
  std::memcpy(lane, &v, sizeof lane);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
  return lane[0];
#endif
}

// Nearest integer, ties to even, for |x| < 2^22.
inline Vec nearest(Vec x) {
#if defined(__AVX512F__)
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return vrndnq_f32(x);
#else
  // Adding 1.5 * 2^23 pushes the fraction out of the mantissa.
  const Vec magic = splat(12582912.0f);
  return (x + magic) - magic;
#endif
}

// 2^n for integral n in [-126, 127].
inline Vec power_of_two(Vec n) { return as_float((__builtin_convertvector(n, IntVec) + 127) << 23); }

// x * 2^n for integral n in [-126, 127].
inline Vec scale_by_power(Vec x, Vec n) {
#if defined(__AVX512F__)
  return _mm512_scalef_ps(x, n);
#else
  return x * power_of_two(n);
#endif
}

// kLanes bfloat16, nearest even.
inline void store_bfloat16(std::uint16_t* p, Vec v) {
#if defined(__AVX512BF16__)
  const __m256bh half = _mm512_cvtneps_pbh(v);
  std::memcpy(p, &half, sizeof half);
#else
  typedef std::uint32_t Bits __attribute__((vector_size(kLanes * 4)));
  typedef std::uint16_t Half __attribute__((vector_size(kLanes * 2)));
  Bits bits = reinterpret_cast<Bits>(v);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Half half = __builtin_convertvector(bits, Half);
  std::memcpy(p, &half, sizeof half);
#endif
}

// kLanes numbers of one byte or two.
inline Vec load_bfloat16(const std::uint16_t* p) {
  typedef std::uint16_t Half __attribute__((vector_size(kLanes * 2)));
  Half half;
  std::memcpy(&half, p, sizeof half);
  return as_float(__builtin_convertvector(half, IntVec) << 16);
}
inline Vec load_int8(const std::int8_t* p) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Vec v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = p[lane];
  return v;
#endif
}

// kLanes integers of [-128, 127] or [0, 255] as bytes.
inline void store_bytes(void* p, IntVec v) {
#if defined(__AVX512F__)
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v)));
#else
  typedef std::uint8_t Bytes __attribute__((vector_size(kLanes)));
  const Bytes bytes = __builtin_convertvector(v, Bytes);
  std::memcpy(p, &bytes, sizeof bytes);
#endif
}

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
  return scale_by_power(expm1_reduced(r) + 1.0f, n);
}

// 2^r - 1 for |r| <= 1/2: a Chebyshev interpolation of (2^r - 1) / r, relative error below 2e-8.
inline Vec exp2m1_reduced(Vec r) {
  Vec p = splat(1.545316295e-04f);
  p = fma(p, r, splat(1.339086336e-03f));
  p = fma(p, r, splat(9.618082557e-03f));
  p = fma(p, r, splat(5.550357114e-02f));
  p = fma(p, r, splat(2.402265076e-01f));
  p = fma(p, r, splat(6.931471880e-01f));
  return p * r;
}

// The functions below go by powers of two, where splitting off the integer is exact.
constexpr float kLog2E = 1.44269504088896341f;

// tanh of t / (2 log2 e): m / (m + 2), m = 2^t - 1 without cancellation; beyond |t| = 40 it is 1 in float32.
inline Vec tanh_of_log2(Vec t) {
  t = min(max(t, splat(-40.0f)), splat(40.0f));
  const Vec n = nearest(t), scale = scale_by_power(splat(1.0f), n);
  const Vec m = fma(exp2m1_reduced(t - n), scale, scale - 1.0f);
  return m / (m + 2.0f);
}

// Relative error below 4e-7.
inline Vec tanh(Vec x) { return tanh_of_log2(x * (2 * kLog2E)); }

// 1 / (1 + 2^t); absolute error below 3e-7.
inline Vec share_of_log2(Vec t) {
  t = min(max(t, splat(-126.0f)), splat(126.0f));
  const Vec n = nearest(t);
  return 1.0f / (scale_by_power(exp2m1_reduced(t - n) + 1.0f, n) + 1.0f);
}

inline Vec sigmoid(Vec x) { return share_of_log2(x * -kLog2E); }

// gate times the tanh approximation of gelu: x * sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
inline Vec gated_gelu(Vec x, Vec gate) {
  constexpr float kLinear = -1.5957691216057308f * kLog2E;
  return x * gate * share_of_log2(x * fma(x * x, splat(kLinear * 0.044715f), splat(kLinear)));
}

inline Vec gelu(Vec x) { return gated_gelu(x, splat(1.0f)); }

// e^(30 tanh(dot / 30 * multiplier)), the weight of a soft-capped logit, where `factor` is logit_factor(multiplier).
// Relative error below 2.5e-7 + 2e-7 |logit|: what tanh leaves of the logit's last bits.
inline float logit_factor(float multiplier) { return multiplier * (2 * kLog2E / kSoftCap); }
inline Vec logit_weight(Vec dot, Vec factor) {
  const Vec share = tanh_of_log2(dot * factor), most = splat(kSoftCap * kLog2E);
  const Vec n = nearest(share * most);
  return scale_by_power(exp2m1_reduced(fma(share, most, -n)) + 1.0f, n);
}

}  // namespace xfast::phoenix::XFAST_ISA_NS
