#include "phoenix/transformer.h"

#include <stdexcept>
#include <string>

namespace xfast::phoenix {

ContextCache::ContextCache(const Dimensions& dimensions, Precision kept, std::size_t count)
    : dim(dimensions), precision(kept), tokens(count), capacity(round_up(count, kPanel)) {
  const std::size_t blocks = dim.layers * dim.kv_heads;
  if (precision == Precision::float32) {
    keys_f32 = Aligned<float>(blocks * keys_per_head());
    values_f32 = Aligned<float>(blocks * values_per_head());
  } else {
    keys_bf16 = Aligned<std::uint16_t>(blocks * keys_per_head());
    values_bf16 = Aligned<std::uint16_t>(blocks * values_per_head());
  }
}

const Kernels& kernels(Isa isa) {
  if (isa > detected_isa())
    throw std::invalid_argument("isa is '" + std::string(isa_name(isa)) + "', this processor has no more than '" +
                                std::string(isa_name(detected_isa())) + "'");
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return avx512::kKernels;
  if (isa >= Isa::avx2) return avx2::kKernels;
#endif
  return scalar::kKernels;
}

}  // namespace xfast::phoenix
