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

// --- where the result is rounded to bfloat16 or int8 anyway
// ------------------------------------------------------------
//
// Odd functions by a cubic on each of sixteen equal pieces: the coefficients of a lane's piece come out of registers by
// one permutation each, so there is no division, and the pieces' errors stay below what the rounding does (2^-9). With
// AVX-512 that halves the time of softmax and of the gate; elsewhere the functions above are used.
#if defined(__AVX512F__)
constexpr float kCapReach = 5.5f;   // 30 tanh beyond it is 30 within 0.001
constexpr float kGeluReach = 4.0f;  // x's share in gelu(x) beyond it is 1 within 2e-5

// 30 log2(e) tanh(5.5 u / 16) on [i, i + 1], Chebyshev interpolation, highest power first: within 8e-4.
alignas(64) constexpr float kCapPieces[4][16] = {
    {-5.14317214e-01f, -1.49250016e-01f, 1.33783609e-01f, 1.92528799e-01f, 1.46026924e-01f, 8.90374705e-02f,
     4.92018908e-02f, 2.59282906e-02f, 1.33469757e-02f, 6.79068919e-03f, 3.43480217e-03f, 1.73226104e-03f,
     8.72336153e-04f, 4.38967312e-04f, 2.20809889e-04f, 1.11051238e-04f},
    {-5.80577590e-02f, -1.63180661e+00f, -2.02612019e+00f, -1.58504164e+00f, -9.97905672e-01f, -5.62530518e-01f,
     -2.99707055e-01f, -1.55168012e-01f, -7.91798234e-02f, -4.01100591e-02f, -2.02438850e-02f, -1.01983575e-02f,
     -5.13289077e-03f, -2.58220313e-03f, -1.29872269e-03f, -6.53117022e-04f},
    {1.48904314e+01f, 1.32744408e+01f, 9.59796619e+00f, 5.95511150e+00f, 3.35722017e+00f, 1.79246426e+00f,
     9.29523230e-01f, 4.74777251e-01f, 2.40632758e-01f, 1.21482335e-01f, 6.12082221e-02f, 3.08086146e-02f,
     1.54994382e-02f, 7.79560395e-03f, 3.92038096e-03f, 1.97141897e-03f},
    {-4.00901801e-04f, 1.43174419e+01f, 2.58111954e+01f, 3.35171013e+01f, 3.80797653e+01f, 4.05850868e+01f,
     4.19040298e+01f, 4.25830269e+01f, 4.29285507e+01f, 4.31033440e+01f, 4.31915054e+01f, 4.32359009e+01f,
     4.32582436e+01f, 4.32694817e+01f, 4.32751350e+01f, 4.32779770e+01f}};

// sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)) - 1/2 of x = 4 u / 16: within 8e-7.
alignas(64) constexpr float kGeluPieces[4][16] = {
    {-1.01692555e-03f, -8.31257668e-04f, -5.15833672e-04f, -1.59687479e-04f, 1.49862477e-04f, 3.56876641e-04f,
     4.47761238e-04f, 4.42673452e-04f, 3.77450779e-04f, 2.87401577e-04f, 1.98411042e-04f, 1.24888553e-04f,
     7.16811628e-05f, 3.73971561e-05f, 1.76458852e-05f, 7.48571301e-06f},
    {-2.21599839e-05f, -3.11044347e-03f, -5.62408334e-03f, -7.17011327e-03f, -7.63067137e-03f, -7.15476321e-03f,
     -6.05921773e-03f, -4.69811028e-03f, -3.36080790e-03f, -2.22626422e-03f, -1.36637758e-03f, -7.75502645e-04f,
     -4.05438710e-04f, -1.94224311e-04f, -8.47312185e-05f, -3.34398937e-05f},
    {9.97404158e-02f, 9.66682658e-02f, 8.79926234e-02f, 7.52410740e-02f, 6.04602210e-02f, 4.56742868e-02f,
     3.24468538e-02f, 2.16712318e-02f, 1.35950390e-02f, 7.99463503e-03f, 4.39325068e-03f, 2.24655797e-03f,
     1.06355955e-03f, 4.63419507e-04f, 1.84670876e-04f, 6.68578068e-05f},
    {-1.53750065e-07f, 9.87009108e-02f, 1.91427335e-01f, 2.73280054e-01f, 3.41191441e-01f, 3.94171059e-01f,
     4.33047622e-01f, 4.59883153e-01f, 4.77299005e-01f, 4.87910688e-01f, 4.93966460e-01f, 4.97191697e-01f,
     4.98787612e-01f, 4.99517411e-01f, 4.99823987e-01f, 4.99941558e-01f}};

// The odd function of u whose pieces these are; beyond +-16 the value there.
inline Vec odd_by_pieces(Vec u, const float (&pieces)[4][16]) {
  const Vec size = min(abs(u), splat(15.999999f));
  const __m512i piece = _mm512_cvttps_epi32(size);
  const Vec r = _mm512_reduce_ps(size, _MM_FROUND_TO_NEG_INF);  // size - floor(size)
  const auto power = [&](int i) -> Vec { return _mm512_permutexvar_ps(piece, _mm512_load_ps(pieces[i])); };
  const Vec value = fma(fma(fma(power(0), r, power(1)), r, power(2)), r, power(3));
  return as_float(as_int(value) ^ (as_int(u) & static_cast<std::int32_t>(0x80000000)));
}

// logit_weight within a relative 8e-4, 1.7e-3 where the cap has set in; `factor` is coarse_logit_factor(multiplier).
inline float coarse_logit_factor(float multiplier) { return multiplier * (16 / (kCapReach * kSoftCap)); }
inline Vec coarse_logit_weight(Vec dot, Vec factor) {
  const Vec power = odd_by_pieces(dot * factor, kCapPieces);
  const Vec r = _mm512_reduce_ps(power, _MM_FROUND_TO_NEG_INF);
  // 2^r on [0, 1), relative error below 8e-5.
  Vec p = fma(splat(7.8024523e-02f), r, splat(2.26067156e-01f));
  p = fma(p, r, splat(6.95833541e-01f));
  p = fma(p, r, splat(9.99925219e-01f));
  return _mm512_scalef_ps(p, power);  // the integer below `power`
}

// gated_gelu with an error of 2e-5 |x gate|.
inline Vec coarse_gated_gelu(Vec x, Vec gate) {
  const Vec product = x * gate;
  return fma(product, odd_by_pieces(x * (16 / kGeluReach), kGeluPieces), product * 0.5f);
}
#else
inline float coarse_logit_factor(float multiplier) { return logit_factor(multiplier); }
inline Vec coarse_logit_weight(Vec dot, Vec factor) { return logit_weight(dot, factor); }
inline Vec coarse_gated_gelu(Vec x, Vec gate) { return gated_gelu(x, gate); }
#endif

}  // namespace xfast::phoenix::XFAST_ISA_NS
