#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "common/cpu.h"
#include "phoenix/hashing.h"
#include "phoenix/hashing_kernels.h"
#include "tests/check.h"

namespace {

using xfast::phoenix::HashFunction;

// The definition, in 128-bit arithmetic so that nothing wraps by accident.
std::int32_t reference(std::int64_t id, const HashFunction& f) {
  if (id == 0) return 0;
  const auto wrapped = static_cast<std::int64_t>(static_cast<std::uint64_t>(
      static_cast<unsigned __int128>(static_cast<std::uint64_t>(id)) * static_cast<std::uint64_t>(f.scale) +
      static_cast<std::uint64_t>(f.bias)));
  __int128 raw = static_cast<__int128>(wrapped) % f.modulus;
  if (raw < 0) raw += f.modulus;
  return static_cast<std::int32_t>(raw % (f.vocab - 1) + 1);
}

using Kernel = void (*)(const std::int64_t*, std::size_t, const HashFunction&, std::int32_t*, std::size_t);

void check_kernel(Kernel kernel) {
  std::mt19937_64 rng(7);
  std::vector<std::int64_t> ids = {0, 1, -1, std::numeric_limits<std::int64_t>::max(),
                                   std::numeric_limits<std::int64_t>::min()};
  for (int i = 0; i < 1000; ++i) ids.push_back(static_cast<std::int64_t>(rng()));
  // Multiples of moduli and their neighbours are where a quotient that is off by one shows.
  for (std::int64_t modulus : {std::int64_t{1} << 13, (std::int64_t{1} << 50) - 1, std::int64_t{2859568897}})
    for (std::int64_t k : {std::int64_t{-7}, std::int64_t{3}, std::numeric_limits<std::int64_t>::max() / modulus})
      for (std::int64_t near : {-1, 0, 1}) ids.push_back(k * modulus + near);
  const HashFunction functions[] = {{196742702, 1935840681, 2859568897, 1000000},
                                    {2161410491, 167407236, 2361375383, 203},
                                    {1, 0, 1, 2},
                                    {-5, 3, std::numeric_limits<std::int64_t>::max(), 1 << 30},
                                    // Both sides of the division-free path's limits, with the extreme table sizes.
                                    {1, 0, (std::int64_t{1} << 13) - 1, 2},
                                    {1, 0, std::int64_t{1} << 13, 2},
                                    {-1, -1, (std::int64_t{1} << 13) + 1, std::numeric_limits<std::int32_t>::max()},
                                    {1, 0, std::int64_t{1} << 50, 2},
                                    {3, 1, (std::int64_t{1} << 50) - 1, std::numeric_limits<std::int32_t>::max()},
                                    {1, 0, (std::int64_t{1} << 50) + 1, 3}};
  for (const auto& f : functions)
    for (std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{7}, ids.size()}) {
      std::vector<std::int32_t> out(count * 3 + 1, -7);
      kernel(ids.data(), count, f, out.data(), 3);
      for (std::size_t i = 0; i < count; ++i) CHECK_EQ(out[3 * i], reference(ids[i], f));
    }
}

}  // namespace

int main() {
  check_kernel(xfast::phoenix::scalar::hash_column);
#if defined(__x86_64__)
  if (xfast::detected_isa() >= xfast::Isa::avx2) check_kernel(xfast::phoenix::avx2::hash_column);
  if (xfast::detected_isa() >= xfast::Isa::avx512) check_kernel(xfast::phoenix::avx512::hash_column);
#endif
  return check::failures() != 0;
}
