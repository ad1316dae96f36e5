// The transformer of both towers on a CPU: packed weights, the context cache, and the entry points that are compiled
// per instruction set (forward_isa.cpp). Shapes and order of operations: spec PHOENIX §3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/cpu.h"
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

struct Layer {
  PackedMatrix qkv;    // [emb, query | key | value], every head padded to head_pad
  PackedMatrix out;    // [query_width, emb]
  PackedMatrix gated;  // [emb, 2 * ffn_pad]: 16 columns of the gelu branch, 16 of the linear branch, and so on
  PackedMatrix down;   // [ffn, emb]
  Aligned<float> norm[4];
};

struct Stack {
  Dimensions dim;
  float attention_multiplier = 1.0f;
  bool causal = true;  // context rows; candidates always see the whole context and themselves
  Precision kv_precision = Precision::float32;
  std::vector<Layer> layers;
};

// Keys (rotated) and values of the context's valid tokens, per layer and key head.
struct ContextCache {
  ContextCache(const Dimensions& dim, Precision precision, std::size_t tokens);

  Dimensions dim;
  Precision precision;  // float32 or bfloat16
  std::size_t tokens;
  std::size_t capacity;  // tokens rounded up to a panel

  // A copy with room for `more` tokens behind the ones that are here; these keep their bits.
  std::shared_ptr<ContextCache> grown(std::size_t more) const;

  // Keys and values as plain arrays [layers, kv_heads, tokens, head]; float32 holds bfloat16 exactly.
  void unpack(float* keys_out, float* values_out) const;
  void pack(const float* keys_in, const float* values_in);

  std::size_t keys_per_head() const { return capacity * round_up(dim.head, 2); }
  std::size_t values_per_head() const { return capacity * dim.head_pad(); }
  std::size_t bytes() const {
    return keys_f32.bytes() + values_f32.bytes() + keys_bf16.bytes() + values_bf16.bytes() + sizeof(*this);
  }

  Aligned<float> keys_f32, values_f32;
  Aligned<std::uint16_t> keys_bf16, values_bf16;

 private:
  // Calls visit(place in a plain array, place among the keys, place among the values) for every stored number.
  template <class Visit>
  void visit(Visit visit) const;
};

// cos and sin of one token's position, dim.head / 2 each.
struct Rotation {
  const float* cosine;
  const float* sine;
};

struct Kernels {
  // c[rows, w.columns] = a[rows, w.rows] @ w, from column `first` (rounded down to a panel) on.
  void (*linear)(const PackedMatrix& w, const float* a, std::size_t lda, std::size_t rows, float* c, std::size_t ldc,
                 std::size_t first);

  // Runs the context rows x [tokens - known, emb_pad] through all layers and fills the cache, which holds the first
  // `known` tokens already (causal stacks only; 0 otherwise). Without `keep_output` the last layer stops at its keys
  // and values and x is left as that layer's input.
  void (*context)(const Stack&, float* x, const Rotation* rotation, ContextCache& cache, std::size_t known,
                  bool keep_output);

  // Runs candidate rows x [rows, emb_pad] against the cache. `valid[r]` says whether row r also sees itself.
  void (*candidates)(const Stack&, const ContextCache&, float* x, const Rotation* rotation, const std::uint8_t* valid,
                     std::size_t rows);

  // y = scale * x / rms(x) per row of emb valid values.
  void (*rms_norm)(const float* x, const float* scale, std::size_t rows, std::size_t emb, std::size_t stride, float* y);

  // Elementwise, in place.
  void (*exp)(float* x, std::size_t count);
  void (*tanh)(float* x, std::size_t count);
  void (*sigmoid)(float* x, std::size_t count);
  void (*gelu)(float* x, std::size_t count);
  void (*silu)(float* x, std::size_t count);
};

// The kernels of an instruction set; one that this processor lacks is refused (std::invalid_argument).
const Kernels& kernels(Isa isa);

namespace scalar {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
namespace amx {
extern const Kernels kKernels;
}

}  // namespace xfast::phoenix
