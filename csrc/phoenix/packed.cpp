#include "phoenix/packed.h"

#include <algorithm>
#include <cmath>

namespace xfast::phoenix {
namespace {

// Where element (k, n) stands when `group` consecutive rows are interleaved.
std::size_t position(std::size_t k, std::size_t n, std::size_t padded_rows, std::size_t group) {
  const std::size_t panel = n / kPanel, column = n % kPanel;
  return panel * kPanel * padded_rows + (k / group) * kPanel * group + column * group + k % group;
}

std::size_t storage(std::size_t padded_rows, std::size_t columns) { return padded_rows * round_up(columns, kPanel); }

}  // namespace

PackedMatrix pack(const std::vector<float>& dense, std::size_t rows, std::size_t columns, Precision precision) {
  PackedMatrix packed;
  packed.precision = precision;
  packed.rows = rows;
  packed.columns = columns;
  const auto at = [&](std::size_t k, std::size_t n) { return dense[k * columns + n]; };
  if (precision == Precision::float32) {
    packed.f32 = Aligned<float>(storage(rows, columns));
    for (std::size_t k = 0; k < rows; ++k)
      for (std::size_t n = 0; n < columns; ++n) packed.f32[position(k, n, rows, 1)] = at(k, n);
  } else if (precision == Precision::bfloat16) {
    const std::size_t padded = round_up(rows, kDeepBfloat16);
    packed.bf16 = Aligned<std::uint16_t>(storage(padded, columns));
    for (std::size_t k = 0; k < rows; ++k)
      for (std::size_t n = 0; n < columns; ++n) packed.bf16[position(k, n, padded, 2)] = to_bfloat16(at(k, n));
  } else {
    const std::size_t padded = round_up(rows, kDeepInt8);
    packed.int8 = Aligned<std::int8_t>(storage(padded, columns));
    packed.scale = Aligned<float>(round_up(columns, kPanel));
    packed.correction = Aligned<std::int32_t>(round_up(columns, kPanel));
    for (std::size_t n = 0; n < columns; ++n) {
      float top = 0;
      for (std::size_t k = 0; k < rows; ++k) top = std::max(top, std::fabs(at(k, n)));
      packed.scale[n] = top / 127;
      if (top == 0) continue;
      std::int32_t total = 0;
      for (std::size_t k = 0; k < rows; ++k) {
        const auto q = static_cast<std::int8_t>(std::lrintf(at(k, n) / packed.scale[n]));
        packed.int8[position(k, n, padded, 4)] = q;
        total += q;
      }
      packed.correction[n] = 128 * total;
    }
  }
  return packed;
}

}  // namespace xfast::phoenix
