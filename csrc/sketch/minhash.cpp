#include "sketch/minhash.h"

#include <algorithm>

#include "common/cpu.h"
#include "sketch/minhash_kernels.h"
#include "sketch/mix.h"

namespace xfast::sketch {

namespace {

constexpr unsigned kRoundShift = 55;
constexpr std::size_t kChunk = 512;  // ids hashed at a time; hashes and ids stay in the first-level cache

struct Kernels {
  decltype(&scalar::mix_xor) mix_xor;
  decltype(&scalar::mix_add) mix_add;
  decltype(&scalar::largest) largest;
  decltype(&scalar::equal_positions) equal_positions;
};

Kernels choose() {
#if defined(__x86_64__)
  if (current_isa() >= Isa::avx512) return {avx512::mix_xor, avx512::mix_add, avx512::largest, avx512::equal_positions};
  if (current_isa() >= Isa::avx2) return {avx2::mix_xor, avx2::mix_add, avx2::largest, avx2::equal_positions};
#endif
  return {scalar::mix_xor, scalar::mix_add, scalar::largest, scalar::equal_positions};
}

const Kernels& kernels() {
  static const Kernels chosen = choose();
  return chosen;
}

}  // namespace

void minhash_add(const std::uint64_t* ids, std::size_t count, std::uint64_t seed, std::uint64_t* bins,
                 std::size_t positions) {
  const Kernels& run = kernels();
  const std::uint64_t seed_hash = mix64(seed + 0x632BE59BD9B4E019ull);
  std::uint64_t hashes[kChunk];
  std::uint64_t throws[kChunk];
  for (std::size_t begin = 0; begin < count; begin += kChunk) {
    const std::size_t size = std::min(kChunk, count - begin);
    run.mix_xor(ids + begin, size, seed_hash, hashes);
    // A round matters until every bin holds a throw of an earlier one; the second K rounds fill bin after bin, so the
    // loop ends. The last throw that counts is the largest bin.
    for (std::uint64_t round = 0; round < 2 * positions; ++round) {
      if (round > 0 && run.largest(bins, positions) >> kRoundShift < round) break;
      const std::uint64_t tag = round << kRoundShift;
      run.mix_add(hashes, size, round * 0x9E3779B97F4A7C15ull, throws);
      if (round < positions) {
        for (std::size_t i = 0; i < size; ++i) {
          std::uint64_t& bin = bins[(throws[i] & 0xFFFFFFFFu) * positions >> 32];
          bin = std::min(bin, tag | throws[i] >> 9);
        }
      } else {
        std::uint64_t& bin = bins[round - positions];
        for (std::size_t i = 0; i < size; ++i) bin = std::min(bin, tag | throws[i] >> 9);
      }
    }
  }
}

void minhash_signature(const std::uint64_t* bins, std::size_t positions, std::uint32_t* signature) {
  for (std::size_t k = 0; k < positions; ++k) {
    const auto value = static_cast<std::uint32_t>(mix64(bins[k]) >> 32);
    signature[k] = bins[k] == kEmptyBin ? kEmptyPosition : std::min(value, kEmptyPosition - 1);
  }
}

void equal_positions(const std::uint32_t* one, const std::uint32_t* column, std::size_t rows, std::size_t positions,
                     std::uint32_t* counts) {
  kernels().equal_positions(one, column, rows, positions, counts);
}

}  // namespace xfast::sketch
