#include "phoenix/hashing.h"

#include "common/cpu.h"
#include "phoenix/hashing_kernels.h"

namespace xfast::phoenix {
namespace {

using Kernel = void (*)(const std::int64_t*, std::size_t, const HashFunction&, std::int32_t*, std::size_t);

Kernel choose_kernel() {
#if defined(__x86_64__)
  if (current_isa() >= Isa::avx512) return avx512::hash_column;
  if (current_isa() >= Isa::avx2) return avx2::hash_column;
#endif
  return scalar::hash_column;
}

}  // namespace

void hash_ids(const std::int64_t* ids, std::size_t count, const HashFunction* functions, std::size_t num_functions,
              std::int32_t* out) {
  static const Kernel kernel = choose_kernel();
  for (std::size_t j = 0; j < num_functions; ++j) kernel(ids, count, functions[j], out + j, num_functions);
}

}  // namespace xfast::phoenix
