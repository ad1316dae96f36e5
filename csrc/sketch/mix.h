// A 64-bit finaliser (the constants of splitmix64): every bit of the input reaches every bit of the output.
#pragma once

#include <cstdint>

namespace xfast::sketch {

inline std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ x >> 27) * 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

}  // namespace xfast::sketch
