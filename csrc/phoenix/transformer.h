// The transformer of both towers on a CPU: packed weights, the context cache, and the entry points that are compiled
// per instruction set (forward_isa.cpp). Shapes and order of operations: spec PHOENIX §3.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/cpu.h"
#include "common/thread_pool.h"
#include "phoenix/context.h"
#include "phoenix/packed.h"

namespace xfast::phoenix {

// Rows of a task (at most `most`) such that all threads get the same number of tasks, at least `each`, as nearly as
// tasks of a multiple of four rows allow. A task's size changes no result.
inline std::size_t even_tile(std::size_t rows, std::size_t threads, std::size_t each, std::size_t most) {
  const auto over = [](std::size_t n, std::size_t parts) { return (n + parts - 1) / parts; };
  const std::size_t share = over(rows, std::max<std::size_t>(threads, 1));
  return std::clamp(round_up(over(share, std::max({each, over(share, most), std::size_t{1}})), 4), std::size_t{4},
                    most);
}

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
  std::vector<Layer> layers;
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
                  bool keep_output, const Workers& workers);

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
  void (*logit_weight)(float* dots, std::size_t count, float multiplier);  // e^(soft-capped logit)

  // The same where bfloat16 or int8 follows: what attention and the gate use in those precisions.
  void (*coarse_logit_weight)(float* dots, std::size_t count, float multiplier);
  void (*coarse_gelu)(float* x, std::size_t count);
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
namespace dotprod {
extern const Kernels kKernels;
}

}  // namespace xfast::phoenix
