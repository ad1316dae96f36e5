#include "phoenix/transformer.h"

#include <stdexcept>
#include <string>

namespace xfast::phoenix {

const Kernels& kernels(Isa isa) {
  if (isa > detected_isa())
    throw std::invalid_argument("isa is '" + std::string(isa_name(isa)) + "', this processor has no more than '" +
                                std::string(isa_name(detected_isa())) + "'");
#if defined(__x86_64__)
  if (isa >= Isa::amx) return amx::kKernels;
  if (isa >= Isa::avx512) return avx512::kKernels;
  if (isa >= Isa::avx2) return avx2::kKernels;
#elif defined(__aarch64__)
  if (isa >= Isa::dotprod) return dotprod::kKernels;
#endif
  return scalar::kKernels;
}

}  // namespace xfast::phoenix
