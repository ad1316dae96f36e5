// Compiled once per instruction set. The hot loop is written so that every compiler vectorises it at every level: no
// division, no branch, and conversions between integers and doubles by way of their bit patterns.
#include <algorithm>
#include <bit>

#include "phoenix/hashing_kernels.h"

namespace xfast::phoenix::XFAST_ISA_NS {
namespace {

constexpr std::size_t kBlock = 256;

// Limits of the division-free path, see `quotient`.
constexpr std::int64_t kSmallestModulus = std::int64_t{1} << 13;
constexpr std::int64_t kLargestModulus = std::int64_t{1} << 50;

constexpr double kTwo52 = 0x1p52;
constexpr std::uint64_t kTwo52Bits = std::bit_cast<std::uint64_t>(kTwo52);

// Correctly rounded double of any int64: the halves are planted into the mantissas of 2^84 and 2^52.
inline double to_double(std::int64_t x) {
  const auto bits = static_cast<std::uint64_t>(x);
  const auto high = std::bit_cast<double>(((bits >> 32) ^ 0x80000000u) | std::bit_cast<std::uint64_t>(0x1p84));
  const auto low = std::bit_cast<double>((bits & 0xffffffffu) | kTwo52Bits);
  return (high - (0x1p84 + 0x1p63 + 0x1p52)) + low;
}

// Nearest integer of x / divisor, give or take one, for |x / divisor| <= 2^50: adding 1.5 * 2^52 leaves the integer in
// the low bits. The three roundings before (x, 1 / divisor, their product) err by at most 3 * 2^-53 * 2^50 = 0.375, the
// last one by 0.5, so that x - quotient * divisor lies in (-divisor, divisor) and one conditional addition repairs it.
inline std::int64_t quotient(double x, double reciprocal) {
  constexpr double kShift = 1.5 * kTwo52;
  return static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(x * reciprocal + kShift) -
                                   std::bit_cast<std::uint64_t>(kShift));
}

inline std::int64_t remainder(std::int64_t x, double as_double, std::int64_t divisor, double reciprocal) {
  const auto product =
      static_cast<std::uint64_t>(quotient(as_double, reciprocal)) * static_cast<std::uint64_t>(divisor);
  const auto rest = static_cast<std::int64_t>(static_cast<std::uint64_t>(x) - product);
  return rest + (rest < 0 ? divisor : 0);
}

void hash_block(const std::int64_t* ids, std::size_t count, const HashFunction& function, std::int32_t* rows) {
  const auto scale = static_cast<std::uint64_t>(function.scale);
  const auto bias = static_cast<std::uint64_t>(function.bias);
  const std::int64_t modulus = function.modulus, last = function.vocab - 1;
  const double by_modulus = 1.0 / static_cast<double>(modulus), by_last = 1.0 / static_cast<double>(last);
  for (std::size_t i = 0; i < count; ++i) {
    const auto mixed = static_cast<std::int64_t>(static_cast<std::uint64_t>(ids[i]) * scale + bias);
    const std::int64_t raw = remainder(mixed, to_double(mixed), modulus, by_modulus);
    // raw < 2^50 is exact as a double.
    const double exact = std::bit_cast<double>(static_cast<std::uint64_t>(raw) | kTwo52Bits) - kTwo52;
    const std::int64_t row = remainder(raw, exact, last, by_last) + 1;
    rows[i] = static_cast<std::int32_t>(ids[i] == 0 ? 0 : row);
  }
}

// Any modulus, with the processor's division.
void hash_block_dividing(const std::int64_t* ids, std::size_t count, const HashFunction& function, std::int32_t* rows) {
  const auto scale = static_cast<std::uint64_t>(function.scale);
  const auto bias = static_cast<std::uint64_t>(function.bias);
  for (std::size_t i = 0; i < count; ++i) {
    const auto mixed = static_cast<std::int64_t>(static_cast<std::uint64_t>(ids[i]) * scale + bias);
    std::int64_t raw = mixed % function.modulus;
    raw += (raw >> 63) & function.modulus;
    const auto row = static_cast<std::int32_t>(raw % (function.vocab - 1) + 1);
    rows[i] = ids[i] == 0 ? 0 : row;
  }
}

}  // namespace

void hash_column(const std::int64_t* ids, std::size_t count, const HashFunction& function, std::int32_t* out,
                 std::size_t stride) {
  const bool division_free = function.modulus >= kSmallestModulus && function.modulus <= kLargestModulus;
  const auto block = division_free ? hash_block : hash_block_dividing;
  if (stride == 1) return block(ids, count, function, out);
  std::int32_t rows[kBlock];
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t size = std::min(kBlock, count - at);
    block(ids + at, size, function, rows);
    for (std::size_t i = 0; i < size; ++i) out[(at + i) * stride] = rows[i];
  }
}

}  // namespace xfast::phoenix::XFAST_ISA_NS
