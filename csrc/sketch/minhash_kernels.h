// The loops of minhash.cpp that exist once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#define XFAST_MINHASH_KERNELS(isa)                                                                                     \
  namespace isa {                                                                                                      \
  /* out[i] = mix64(in[i] ^ flip) */                                                                                   \
  void mix_xor(const std::uint64_t* in, std::size_t count, std::uint64_t flip, std::uint64_t* out);                    \
  /* out[i] = mix64(in[i] + step) */                                                                                   \
  void mix_add(const std::uint64_t* in, std::size_t count, std::uint64_t step, std::uint64_t* out);                    \
  std::uint64_t largest(const std::uint64_t* values, std::size_t count);                                               \
  void equal_positions(const std::uint32_t* one, const std::uint32_t* column, std::size_t rows, std::size_t positions, \
                       std::uint32_t* counts);                                                                         \
  }

namespace xfast::sketch {
XFAST_MINHASH_KERNELS(scalar)
XFAST_MINHASH_KERNELS(avx2)
XFAST_MINHASH_KERNELS(avx512)
}  // namespace xfast::sketch
