// Compiled once per instruction set; the loop below is what the compiler vectorises.
#include "phoenix/hashing_kernels.h"

namespace xfast::phoenix::XFAST_ISA_NS {

void hash_column(const std::int64_t* ids, std::size_t count, const HashFunction& function, std::int32_t* out,
                 std::size_t stride) {
  const auto scale = static_cast<std::uint64_t>(function.scale);
  const auto bias = static_cast<std::uint64_t>(function.bias);
  for (std::size_t i = 0; i < count; ++i) {
    const auto mixed = static_cast<std::int64_t>(static_cast<std::uint64_t>(ids[i]) * scale + bias);
    std::int64_t raw = mixed % function.modulus;
    raw += (raw >> 63) & function.modulus;
    const auto row = static_cast<std::int32_t>(raw % (function.vocab - 1) + 1);
    out[i * stride] = ids[i] == 0 ? 0 : row;
  }
}

}  // namespace xfast::phoenix::XFAST_ISA_NS
