#include "phoenix/transformer.h"

#include <algorithm>
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

std::shared_ptr<ContextCache> ContextCache::grown(std::size_t more) const {
  auto copy = std::make_shared<ContextCache>(dim, precision, tokens + more);
  // A panel's place inside its head does not depend on the capacity, so every head is one copy.
  const auto move = [&](const auto& from, auto& to, std::size_t old_head, std::size_t new_head) {
    for (std::size_t block = 0; from.size() > 0 && block < dim.layers * dim.kv_heads; ++block)
      std::copy_n(from.data() + block * old_head, old_head, to.data() + block * new_head);
  };
  move(keys_f32, copy->keys_f32, keys_per_head(), copy->keys_per_head());
  move(keys_bf16, copy->keys_bf16, keys_per_head(), copy->keys_per_head());
  move(values_f32, copy->values_f32, values_per_head(), copy->values_per_head());
  move(values_bf16, copy->values_bf16, values_per_head(), copy->values_per_head());
  return copy;
}

template <class Visit>
void ContextCache::visit(Visit visit) const {
  std::size_t plain = 0;
  for (std::size_t block = 0; block < dim.layers * dim.kv_heads; ++block)
    for (std::size_t token = 0; token < tokens; ++token)
      for (std::size_t i = 0; i < dim.head; ++i, ++plain) {
        const std::size_t key = block * keys_per_head(), value = block * values_per_head();
        const std::size_t panel = token / kPanel * kPanel, column = token % kPanel;
        if (precision == Precision::float32)
          visit(plain, key + panel * dim.head + i * kPanel + column, value + token * dim.head_pad() + i);
        else
          visit(plain, key + panel * round_up(dim.head, 2) + i / 2 * 2 * kPanel + 2 * column + i % 2,
                value + token / 2 * 2 * dim.head_pad() + 2 * i + token % 2);
      }
}

void ContextCache::unpack(float* keys_out, float* values_out) const {
  const bool wide = precision == Precision::float32;
  visit([&](std::size_t plain, std::size_t key, std::size_t value) {
    keys_out[plain] = wide ? keys_f32[key] : from_bfloat16(keys_bf16[key]);
    values_out[plain] = wide ? values_f32[value] : from_bfloat16(values_bf16[value]);
  });
}

void ContextCache::pack(const float* keys_in, const float* values_in) {
  const bool wide = precision == Precision::float32;
  visit([&](std::size_t plain, std::size_t key, std::size_t value) {
    if (wide) {
      keys_f32[key] = keys_in[plain];
      values_f32[value] = values_in[plain];
    } else {
      keys_bf16[key] = to_bfloat16(keys_in[plain]);
      values_bf16[value] = to_bfloat16(values_in[plain]);
    }
  });
}

const Kernels& kernels(Isa isa) {
  if (isa > detected_isa())
    throw std::invalid_argument("isa is '" + std::string(isa_name(isa)) + "', this processor has no more than '" +
                                std::string(isa_name(detected_isa())) + "'");
#if defined(__x86_64__)
  if (isa >= Isa::amx) return amx::kKernels;
  if (isa >= Isa::avx512) return avx512::kKernels;
  if (isa >= Isa::avx2) return avx2::kKernels;
#endif
  return scalar::kKernels;
}

}  // namespace xfast::phoenix
