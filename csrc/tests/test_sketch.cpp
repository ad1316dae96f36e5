#include <cstdint>
#include <random>
#include <vector>

#include "common/cpu.h"
#include "sketch/bloom.h"
#include "sketch/minhash.h"
#include "sketch/minhash_kernels.h"
#include "tests/check.h"

namespace {

namespace sketch = xfast::sketch;

using Mix = decltype(&sketch::scalar::mix_xor);
using Equal = decltype(&sketch::scalar::equal_positions);

// Every instruction set gives the answer of the scalar copy, at lengths that no register divides.
void check_kernels(Mix mix_xor, Mix mix_add, Equal equal_positions) {
  std::mt19937_64 rng(7);
  for (const std::size_t count : {0, 1, 3, 8, 31, 129, 512}) {
    std::vector<std::uint64_t> in(count), got(count), expected(count);
    for (auto& value : in) value = rng();
    for (const std::uint64_t key : {std::uint64_t{0}, ~std::uint64_t{0}, rng()}) {
      mix_xor(in.data(), count, key, got.data());
      sketch::scalar::mix_xor(in.data(), count, key, expected.data());
      CHECK(got == expected);
      mix_add(in.data(), count, key, got.data());
      sketch::scalar::mix_add(in.data(), count, key, expected.data());
      CHECK(got == expected);
    }
    std::vector<std::uint32_t> one(count), column(5 * count), counts(5), wanted(5);
    for (auto& value : one) value = rng() & 3;
    for (auto& value : column) value = rng() & 3;
    equal_positions(one.data(), column.data(), 5, count, counts.data());
    sketch::scalar::equal_positions(one.data(), column.data(), 5, count, wanted.data());
    CHECK(counts == wanted);
  }
}

// One id fills every bin, whatever the length.
void check_single_members() {
  for (const std::size_t positions : {std::size_t{1}, std::size_t{128}, sketch::kMaxPositions}) {
    for (std::uint64_t id = 0; id < 50; ++id) {
      std::vector<std::uint64_t> bins(positions, sketch::kEmptyBin);
      sketch::minhash_add(&id, 1, 0, bins.data(), positions);
      for (const std::uint64_t bin : bins) CHECK(bin != sketch::kEmptyBin);
    }
  }
}

void check_bloom() {
  std::vector<std::uint64_t> words(3, 0);
  const std::uint64_t ids[] = {0, 1, ~std::uint64_t{0}};
  sketch::bloom_add(ids, 2, 5, words.data(), words.size());
  bool found[] = {false, false, false};
  sketch::bloom_contains(ids, 3, 5, words.data(), words.size(), found);
  CHECK(found[0] && found[1]);
  CHECK(!found[2]);
}

}  // namespace

int main() {
#if defined(__x86_64__)
  if (xfast::detected_isa() >= xfast::Isa::avx2)
    check_kernels(sketch::avx2::mix_xor, sketch::avx2::mix_add, sketch::avx2::equal_positions);
  if (xfast::detected_isa() >= xfast::Isa::avx512)
    check_kernels(sketch::avx512::mix_xor, sketch::avx512::mix_add, sketch::avx512::equal_positions);
#endif
  check_single_members();
  check_bloom();
  return check::failures() != 0;
}
