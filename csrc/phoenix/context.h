// What a candidate needs of a viewer: keys (rotated) and values of the context's valid tokens, per layer and key head.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "phoenix/packed.h"

namespace xfast::phoenix {

struct Dimensions {
  std::size_t emb = 0, layers = 0, query_heads = 0, kv_heads = 0, head = 0, ffn = 0;

  std::size_t emb_pad() const { return round_up(emb, kColumns); }
  std::size_t head_pad() const { return round_up(head, kColumns); }
  std::size_t ffn_pad() const { return round_up(ffn, kColumns); }
  std::size_t query_width() const { return query_heads * head_pad(); }
  std::size_t kv_width() const { return kv_heads * head_pad(); }
};

// What keys and values are kept in, and what attention computes in: float32 keeps any storage and bfloat16 one that is
// no wider. int8 has a scale per layer, key head and token, and every product with it is exact, because an int8 is a
// bfloat16 and a float32, and the scales multiply float32 sums.
struct KvFormat {
  Precision storage = Precision::float32;
  Precision arithmetic = Precision::float32;

  bool operator==(const KvFormat&) const = default;
};

// An int8 vector of float32: x[i] is q[i] * scale with |q| <= 127. The scale is max|x| / 127 rounded up to 16
// significant bits, so that q * scale and 127 * scale are float32 numbers and quantising them again gives q and scale
// back. Vectors below 1e-30 count as zero.
float int8_scale(float largest);

// Elements stand in the order in which the kernels read them as operands of `format.arithmetic` (see packed.h): keys as
// panels of 32 tokens, values as rows of tokens, pairs interleaved for bfloat16. All of it is one block of memory,
// which may be somebody else's.
struct ContextCache {
  // Room for `room` tokens, `count` of them in use; zeroed.
  ContextCache(const Dimensions& dim, const KvFormat& format, std::size_t count, std::size_t room);
  ContextCache(const Dimensions& dimensions, const KvFormat& kept, std::size_t count)
      : ContextCache(dimensions, kept, count, count) {}
  // In memory of another, at least memory_bytes(dim, format, room) long, which holds such a cache or only zeros.
  ContextCache(const Dimensions& dim, const KvFormat& format, std::size_t count, std::size_t room, void* memory);

  Dimensions dim;
  KvFormat format;
  std::size_t tokens;
  std::size_t capacity;  // room rounded up to a panel

  static std::size_t memory_bytes(const Dimensions& dim, const KvFormat& format, std::size_t room);

  // A copy with room for `more` tokens behind the ones that are here; these keep their bits.
  std::shared_ptr<ContextCache> grown(std::size_t more) const;

  // Keys and values as plain arrays [layers, kv_heads, tokens, head]; float32 holds all storages exactly.
  void unpack(float* keys_out, float* values_out) const;
  void pack(const float* keys_in, const float* values_in);

  template <class T>
  T* keys(std::size_t layer, std::size_t head) const {
    return reinterpret_cast<T*>(memory_) + block(layer, head) * keys_per_head();
  }
  template <class T>
  T* values(std::size_t layer, std::size_t head) const {
    return reinterpret_cast<T*>(memory_ + values_at()) + block(layer, head) * values_per_head();
  }
  // int8 only: one per token.
  float* key_scales(std::size_t layer, std::size_t head) const {
    return reinterpret_cast<float*>(memory_ + scales_at()) + block(layer, head) * capacity;
  }
  float* value_scales(std::size_t layer, std::size_t head) const {
    return key_scales(layer, head) + blocks() * capacity;
  }

  std::size_t key_row() const { return wide() ? dim.head : round_up(dim.head, 2); }
  std::size_t keys_per_head() const { return capacity * key_row(); }
  std::size_t values_per_head() const { return capacity * dim.head_pad(); }
  // Place of feature i of a token inside its head.
  std::size_t key_place(std::size_t token, std::size_t i) const {
    const std::size_t panel = token / kPanel * kPanel * key_row(), column = token % kPanel;
    return panel + (wide() ? i * kPanel + column : i / 2 * 2 * kPanel + 2 * column + i % 2);
  }
  std::size_t value_place(std::size_t token, std::size_t i) const {
    return wide() ? token * dim.head_pad() + i : token / 2 * 2 * dim.head_pad() + 2 * i + token % 2;
  }

  std::size_t bytes() const { return memory_bytes(dim, format, capacity) + sizeof(*this); }

 private:
  bool wide() const { return format.arithmetic == Precision::float32; }
  std::size_t blocks() const { return dim.layers * dim.kv_heads; }
  std::size_t block(std::size_t layer, std::size_t head) const { return layer * dim.kv_heads + head; }
  std::size_t element_bytes() const;
  std::size_t values_at() const { return round_up(blocks() * keys_per_head() * element_bytes(), 64); }
  std::size_t scales_at() const { return values_at() + round_up(blocks() * values_per_head() * element_bytes(), 64); }

  Aligned<char> own_;
  char* memory_;
};

}  // namespace xfast::phoenix
