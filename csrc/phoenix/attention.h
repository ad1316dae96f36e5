// Attention of a tile of rows over a context's keys and, for candidates, their own; included only by files compiled per
// instruction set.
//
// The soft cap bounds every logit by 30 (PHOENIX §3.3), so e^logit and its sums fit float32 and no maximum has to be
// found first: keys stream through in blocks, and a row's sums are continued from block to block in ascending order of
// keys, as if there were one.
#pragma once

#include <algorithm>
#include <type_traits>

#include "phoenix/multiply.h"
#include "phoenix/transformer.h"

namespace xfast::phoenix::XFAST_ISA_NS {

constexpr std::size_t kTileRows = 4 * kRows;  // rows that pass through all layers together and stay in the first caches
constexpr std::size_t kKeyBlock = 512;        // keys whose logits are in memory at a time; a multiple of kPanel

// Grow-only scratch memory of one thread, so that a request allocates nothing once warm.
struct Buffers {
  Aligned<float> hidden, qkv, attended, projected, gated, activated, scores, row_scale, spread, wide_keys, wide_values;
  Aligned<std::uint16_t> half, query_half, weight_half, half_keys, half_values;
  Aligned<std::uint8_t> bytes;

  template <class T>
  static T* grow(Aligned<T>& memory, std::size_t size) {
    if (memory.size() < size) memory = Aligned<T>(size + size / 4);
    return memory.data();
  }
};

inline Buffers& buffers() {
  thread_local Buffers mine;
  return mine;
}

// Rows a multiple of 4 KB apart would share the few cache lines of one set.
template <class T>
constexpr std::size_t spread_stride(std::size_t width) {
  return width * sizeof(T) % 4096 == 0 && width > 0 ? width + 64 / sizeof(T) : width;
}

// Quantises one vector into the places that `place` names; int8_scale without the loops over features.
template <class Place>
inline float remember_int8(const float* x, std::size_t size, std::int8_t* out, Place place) {
  float most = 0;
  for (std::size_t i = 0; i < size; ++i) most = std::max(most, x[i] < 0 ? -x[i] : x[i]);
  const float scale = int8_scale(most);
  for (std::size_t i = 0; i < size; ++i)
    out[place(i)] = static_cast<std::int8_t>(scale > 0 ? nearest(splat(x[i] / scale))[0] : 0.0f);
  return scale;
}

// Store one token's key and value.
inline void remember(const ContextCache& cache, std::size_t layer, std::size_t token, const float* keys,
                     const float* values) {
  const Dimensions& dim = cache.dim;
  const auto key_place = [&](std::size_t i) { return cache.key_place(token, i); };
  const auto value_place = [&](std::size_t i) { return cache.value_place(token, i); };
  for (std::size_t g = 0; g < dim.kv_heads; ++g) {
    const float* key = keys + g * dim.head_pad();
    const float* value = values + g * dim.head_pad();
    if (cache.format.storage == Precision::float32) {
      float *k = cache.keys<float>(layer, g), *v = cache.values<float>(layer, g);
      for (std::size_t i = 0; i < dim.head; ++i) k[key_place(i)] = key[i];
      for (std::size_t i = 0; i < dim.head; ++i) v[value_place(i)] = value[i];
    } else if (cache.format.storage == Precision::bfloat16) {
      auto *k = cache.keys<std::uint16_t>(layer, g), *v = cache.values<std::uint16_t>(layer, g);
      for (std::size_t i = 0; i < dim.head; ++i) k[key_place(i)] = to_bfloat16(key[i]);
      for (std::size_t i = 0; i < dim.head; ++i) v[value_place(i)] = to_bfloat16(value[i]);
    } else {
      cache.key_scales(layer, g)[token] = remember_int8(key, dim.head, cache.keys<std::int8_t>(layer, g), key_place);
      cache.value_scales(layer, g)[token] =
          remember_int8(value, dim.head, cache.values<std::int8_t>(layer, g), value_place);
    }
  }
}

// Stored numbers as operands; every conversion is exact.
inline void widen(const std::int8_t* from, std::size_t count, float* to) {
  for (std::size_t i = 0; i < count; i += kLanes) store(to + i, load_int8(from + i));
}
inline void widen(const std::uint16_t* from, std::size_t count, float* to) {
  for (std::size_t i = 0; i < count; i += kLanes) store(to + i, load_bfloat16(from + i));
}
inline void widen(const std::int8_t* from, std::size_t count, std::uint16_t* to) {
  for (std::size_t i = 0; i < count; i += kLanes) store_bfloat16(to + i, load_int8(from + i));
}

// One block of one key head as operands of type T.
template <class T>
struct Block {
  Panels<T> keys, values;
  const float* key_scale;  // per key of the block, or null
  const float* value_scale;
};

// Keys [first, first + count) of a head; `first` is a multiple of kPanel.
template <class T>
Block<T> block_of(const ContextCache& cache, std::size_t layer, std::size_t head, std::size_t first,
                  std::size_t count) {
  constexpr std::size_t kGroup = 4 / sizeof(T);
  const std::size_t row = cache.key_row(), width = cache.dim.head_pad();
  const std::size_t key_at = first * row, value_at = first * width;
  Block<T> block = {{nullptr, kPanel * row, kPanel * kGroup, row / kGroup, round_up(count, kColumns)},
                    {nullptr, kPanel * kGroup, width * kGroup, (count + kGroup - 1) / kGroup, width},
                    nullptr,
                    nullptr};
  if (cache.format.storage == cache.format.arithmetic) {
    block.keys.data = cache.keys<T>(layer, head) + key_at;
    block.values.data = cache.values<T>(layer, head) + value_at;
    return block;
  }
  const std::size_t key_count = round_up(count, kPanel) * row, value_count = round_up(count, 2) * width;
  Buffers& b = buffers();
  T *keys, *values;
  if constexpr (std::is_same_v<T, float>) {
    keys = Buffers::grow(b.wide_keys, round_up(key_count, kColumns));
    values = Buffers::grow(b.wide_values, value_count);
  } else {
    keys = Buffers::grow(b.half_keys, round_up(key_count, kColumns));
    values = Buffers::grow(b.half_values, value_count);
  }
  if (cache.format.storage == Precision::int8) {
    widen(cache.keys<std::int8_t>(layer, head) + key_at, key_count, keys);
    widen(cache.values<std::int8_t>(layer, head) + value_at, value_count, values);
    block.key_scale = cache.key_scales(layer, head) + first;
    block.value_scale = cache.value_scales(layer, head) + first;
  } else if constexpr (std::is_same_v<T, float>) {
    widen(cache.keys<std::uint16_t>(layer, head) + key_at, key_count, keys);
    widen(cache.values<std::uint16_t>(layer, head) + value_at, value_count, values);
  }
  block.keys.data = keys;
  block.values.data = values;
  return block;
}

// One row's unnormalised softmax weights of a block, as operands of the product with the values; adds their sum.
// `keys` of the block's keys are seen, the others weigh nothing.
template <class T>
void soften(const float* scores, std::size_t padded, std::size_t keys, float factor, const Block<T>& block, T* weights,
            Vec& total) {
  const auto put = [&](std::size_t j, Vec weight) {
    if (block.value_scale != nullptr) weight = weight * load(block.value_scale + j);
    if constexpr (std::is_same_v<T, float>)
      store(weights + j, weight);
    else
      store_bfloat16(weights + j, weight);
  };
  const auto weight_of = [&](std::size_t j) {
    const Vec by = block.key_scale == nullptr ? splat(factor) : load(block.key_scale + j) * factor;
    if constexpr (std::is_same_v<T, float>)
      return logit_weight(load(scores + j), by);
    else
      return coarse_logit_weight(load(scores + j), by);
  };
  std::size_t j = 0;
  for (; j + kLanes <= keys; j += kLanes) {
    const Vec weight = weight_of(j);
    total = total + weight;
    put(j, weight);
  }
  if (j < keys) {
    IntVec lane;
    for (int i = 0; i < kLanes; ++i) lane[i] = i;
    const Vec weight = lane < static_cast<std::int32_t>(keys - j) ? weight_of(j) : Vec{};
    total = total + weight;
    put(j, weight);
    j += kLanes;
  }
  for (; j < padded; j += kLanes) put(j, Vec{});
}

inline float dot(const float* a, const float* b, std::size_t padded) {
  Vec acc = {};
  for (std::size_t i = 0; i < padded; i += kLanes) acc = fma(load(a + i), load(b + i), acc);
  return sum(acc);
}

// What a row may attend to: the first `keys` cached tokens, and itself.
struct Sight {
  std::size_t keys;
  bool self;
};

// `qkv` rows hold query | key | value; the result goes to out [rows, query_width]. No row sees more than `keys`.
template <class T, class SightOf>
void attend_in(const Stack& stack, const ContextCache& cache, std::size_t layer, const float* qkv, std::size_t rows,
               std::size_t keys, SightOf sight_of, float* out) {
  const Dimensions& dim = cache.dim;
  const std::size_t head_pad = dim.head_pad(), ldq = dim.query_width() + 2 * dim.kv_width(), ldo = dim.query_width();
  const std::size_t group = dim.query_heads / dim.kv_heads;
  const float factor = logit_factor(stack.attention_multiplier);
  const float weight_factor = std::is_same_v<T, float> ? factor : coarse_logit_factor(stack.attention_multiplier);
  Buffers& b = buffers();
  const std::size_t lds = spread_stride<float>(round_up(std::min(keys, kKeyBlock), kColumns));
  float* scores = Buffers::grow(b.scores, rows * lds + kLanes);
  const std::size_t pairs = round_up(dim.head, 2);
  std::uint16_t *half_query = nullptr, *half_weights = nullptr;
  if constexpr (!std::is_same_v<T, float>) {
    half_query = Buffers::grow(b.query_half, dim.query_heads * rows * pairs);
    half_weights = Buffers::grow(b.weight_half, rows * lds);
    for (std::size_t h = 0; h < dim.query_heads; ++h)
      to_bfloat16_rows(qkv + h * head_pad, ldq, rows, dim.head, half_query + h * rows * pairs, pairs);
  }
  Vec totals[kTileRows];
  for (std::size_t g = 0; g < dim.kv_heads; ++g)
    for (std::size_t h = g * group; h < (g + 1) * group; ++h) {
      const float* query = qkv + h * head_pad;
      float* mixed = out + h * head_pad;
      std::fill_n(totals, rows, Vec{});
      for (std::size_t first = 0; first < keys; first += kKeyBlock) {
        const std::size_t count = std::min(kKeyBlock, keys - first), padded = round_up(count, kColumns);
        const Block<T> block = block_of<T>(cache, layer, g, first, count);
        T* weights;
        if constexpr (std::is_same_v<T, float>) {
          multiply(query, ldq, rows, block.keys, scores, lds);
          weights = scores;
        } else {
          multiply(half_query + h * rows * pairs, pairs, rows, block.keys, scores, lds);
          weights = half_weights;
        }
        for (std::size_t r = 0; r < rows; ++r) {
          const std::size_t seen = sight_of(r).keys;
          soften(scores + r * lds, padded, seen > first ? std::min(seen - first, count) : 0, weight_factor, block,
                 weights + r * lds, totals[r]);
        }
        multiply(weights, lds, rows, block.values, mixed, ldo, first > 0);
      }
      const float* own_key = qkv + dim.query_width() + g * head_pad;
      const float* own_value = own_key + dim.kv_width();
      alignas(64) float self[round_up(kTileRows, kLanes)] = {};
      for (std::size_t r = 0; r < rows; ++r)
        if (sight_of(r).self) self[r] = dot(query + r * ldq, own_key + r * ldq, head_pad);
      for (std::size_t r = 0; r < rows; r += kLanes) store(self + r, logit_weight(load(self + r), splat(factor)));
      for (std::size_t r = 0; r < rows; ++r) {
        const Sight sight = sight_of(r);
        const float own = sight.self ? self[r] : 0.0f, total = sum(totals[r]) + own;
        const Vec inverse = splat(total > 0 ? 1.0f / total : 0.0f);
        float* row = mixed + r * ldo;
        for (std::size_t i = 0; i < head_pad; i += kLanes) {
          const Vec context = keys > 0 ? load(row + i) : Vec{};
          store(row + i, fma(splat(own), load(own_value + r * ldq + i), context) * inverse);
        }
      }
    }
}

template <class SightOf>
void attend(const Stack& stack, const ContextCache& cache, std::size_t layer, const float* qkv, std::size_t rows,
            std::size_t keys, SightOf sight_of, float* out) {
  if (cache.format.arithmetic == Precision::float32)
    attend_in<float>(stack, cache, layer, qkv, rows, keys, sight_of, out);
  else
    attend_in<std::uint16_t>(stack, cache, layer, qkv, rows, keys, sight_of, out);
}

}  // namespace xfast::phoenix::XFAST_ISA_NS
