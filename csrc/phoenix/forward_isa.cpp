// The transformer's forward pass; compiled once per instruction set.
#include "phoenix/attention.h"
#include "phoenix/multiply.h"
#include "phoenix/transformer.h"
#if defined(XFAST_ISA_amx)
#include "phoenix/amx.h"
#endif

namespace xfast::phoenix::XFAST_ISA_NS {
namespace {

constexpr float kNormEpsilon = 1e-5f;   // PHOENIX §3.2
constexpr std::size_t kRowsAhead = 32;  // activations have room for this many rows at a time: a tile reads whole blocks
// A pass of fewer products per layer is over before a helper would have begun.
constexpr std::size_t kShareLayer = 4'000'000;

void linear(const PackedMatrix& w, const float* a, std::size_t lda, std::size_t rows, float* c, std::size_t ldc,
            std::size_t first) {
  first = first / kPanel * kPanel;
  Buffers& b = buffers();
  if (w.precision == Precision::float32) {
    Panels<float> panels = float_panels(w);
    panels.data += first / kPanel * panels.panel_stride;
    panels.columns -= first;
    const std::size_t spread = spread_stride<float>(lda);
    if (spread != lda && rows > 1) {
      float* copy = Buffers::grow(b.spread, rows * spread);
      for (std::size_t r = 0; r < rows; ++r) std::memcpy(copy + r * spread, a + r * lda, w.rows * sizeof(float));
      multiply(copy, spread, rows, panels, c + first, ldc);
    } else {
      multiply(a, lda, rows, panels, c + first, ldc);
    }
  } else if (w.precision == Precision::bfloat16) {
    const std::size_t width = spread_stride<std::uint16_t>(round_up(w.rows, kDeepBfloat16));
    std::uint16_t* half = Buffers::grow(b.half, round_up(rows, kRowsAhead) * width);
    to_bfloat16_rows(a, lda, rows, w.rows, half, width);
#if defined(XFAST_ISA_amx)
    tile_multiply(half, width, rows, w, first, c, ldc);
#else
    Panels<std::uint16_t> panels = bfloat16_panels(w);
    panels.data += first / kPanel * panels.panel_stride;
    panels.columns -= first;
    multiply(half, width, rows, panels, c + first, ldc);
#endif
  } else {
    const std::size_t width = spread_stride<std::uint8_t>(round_up(w.rows, kDeepInt8));
    std::uint8_t* bytes = Buffers::grow(b.bytes, round_up(rows, kRowsAhead) * width);
    float* scale = Buffers::grow(b.row_scale, rows);
    to_bytes_rows(a, lda, rows, w.rows, bytes, width, scale);
#if defined(XFAST_ISA_amx)
    tile_multiply(bytes, width, rows, scale, w, first, c, ldc);
#else
    multiply(bytes, width, rows, scale, w, first, c, ldc);
#endif
  }
}

float inverse_rms(const float* x, std::size_t emb, std::size_t stride) {
  Vec squares = {};
  for (std::size_t i = 0; i < stride; i += kLanes) {
    const Vec v = load(x + i);
    squares = fma(v, v, squares);
  }
  return 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(emb) + kNormEpsilon);
}

void rms_norm(const float* x, const float* scale, std::size_t rows, std::size_t emb, std::size_t stride, float* y) {
  for (std::size_t r = 0; r < rows; ++r, x += stride, y += stride) {
    const Vec inverse = splat(inverse_rms(x, emb, stride));
    for (std::size_t i = 0; i < stride; i += kLanes) store(y + i, load(scale + i) * (load(x + i) * inverse));
  }
}

// residual += norm(x)
void add_normed(const float* x, const float* scale, std::size_t rows, std::size_t emb, std::size_t stride,
                float* residual) {
  for (std::size_t r = 0; r < rows; ++r, x += stride, residual += stride) {
    const Vec inverse = splat(inverse_rms(x, emb, stride));
    for (std::size_t i = 0; i < stride; i += kLanes)
      store(residual + i, load(residual + i) + load(scale + i) * (load(x + i) * inverse));
  }
}

// Half-split pairs (i, i + head / 2), PHOENIX §3.4.
void rotate(float* heads, std::size_t count, const Dimensions& dim, const Rotation& rotation) {
  const std::size_t half = dim.head / 2;
  for (std::size_t h = 0; h < count; ++h) {
    float* low = heads + h * dim.head_pad();
    float* high = low + half;
    std::size_t i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const Vec a = load(low + i), b = load(high + i), c = load(rotation.cosine + i), s = load(rotation.sine + i);
      store(low + i, a * c - b * s);
      store(high + i, b * c + a * s);
    }
    for (; i < half; ++i) {
      const float a = low[i], b = high[i], c = rotation.cosine[i], s = rotation.sine[i];
      low[i] = a * c - b * s;
      high[i] = b * c + a * s;
    }
  }
}

// norm, query | key | value, rotation of query and key.
void project_qkv(const Stack& stack, const Layer& layer, const float* x, std::size_t rows, const Rotation* rotation,
                 bool keys_only, float* qkv) {
  const Dimensions& dim = stack.dim;
  const std::size_t width = dim.query_width() + 2 * dim.kv_width();
  float* hidden = Buffers::grow(buffers().hidden, rows * dim.emb_pad());
  rms_norm(x, layer.norm[0].data(), rows, dim.emb, dim.emb_pad(), hidden);
  linear(layer.qkv, hidden, dim.emb_pad(), rows, qkv, width, keys_only ? dim.query_width() : 0);
  for (std::size_t r = 0; r < rows; ++r) {
    if (!keys_only) rotate(qkv + r * width, dim.query_heads, dim, rotation[r]);
    rotate(qkv + r * width + dim.query_width(), dim.kv_heads, dim, rotation[r]);
  }
}

// x += N1(attended @ out); x += N3(FFN(N2(x))).
void finish_layer(const Stack& stack, const Layer& layer, const float* attended, std::size_t rows, float* x) {
  const Dimensions& dim = stack.dim;
  Buffers& b = buffers();
  const std::size_t emb = dim.emb_pad(), ffn = dim.ffn_pad();
  float* projected = Buffers::grow(b.projected, rows * emb);
  float* hidden = Buffers::grow(b.hidden, rows * emb);
  float* gated = Buffers::grow(b.gated, rows * 2 * ffn);
  float* activated = Buffers::grow(b.activated, rows * ffn);
  linear(layer.out, attended, dim.query_width(), rows, projected, emb, 0);
  add_normed(projected, layer.norm[1].data(), rows, dim.emb, emb, x);
  rms_norm(x, layer.norm[2].data(), rows, dim.emb, emb, hidden);
  linear(layer.gated, hidden, emb, rows, gated, 2 * ffn, 0);
  const bool coarse = layer.down.precision != Precision::float32;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t j = 0; j < ffn; j += kLanes) {
      const float* gate = gated + r * 2 * ffn + j / kColumns * 2 * kColumns + j % kColumns;
      const Vec x = load(gate), by = load(gate + kColumns);
      store(activated + r * ffn + j, coarse ? coarse_gated_gelu(x, by) : gated_gelu(x, by));
    }
  linear(layer.down, activated, ffn, rows, projected, emb, 0);
  add_normed(projected, layer.norm[3].data(), rows, dim.emb, emb, x);
}

void context(const Stack& stack, float* x, const Rotation* rotation, ContextCache& cache, std::size_t known,
             bool keep_output, const Workers& workers) {
  const Dimensions& dim = stack.dim;
  const std::size_t emb = dim.emb_pad(), width = dim.query_width() + 2 * dim.kv_width();
  const std::size_t tokens = cache.tokens, fresh = tokens - known;
  const Layer& any = stack.layers.front();
  const std::size_t products = emb * (any.qkv.columns + any.gated.columns) + (dim.query_width() + dim.ffn) * emb;
  const bool shared = workers.threads > 1 && fresh > kRows && fresh * products > kShareLayer;
  // Tiles alone need nothing of the rows behind them where attention is causal: a layer is one pass then. Otherwise
  // everybody's keys come first.
  const bool one_pass = stack.causal && !shared;
  // Later tiles see more keys where attention is causal: with two tiles or more, a thread can take a short and a long
  // one.
  const std::size_t tile = shared ? even_tile(fresh, workers.threads, 2, kTileRows) : kTileRows;
  const std::size_t tiles = (fresh + tile - 1) / tile;
  Aligned<float> queries(one_pass ? 0 : fresh * width);
  const Workers alone;
  const Workers& crew = shared ? workers : alone;
  for (std::size_t l = 0; l < dim.layers; ++l) {
    const bool keys_only = !keep_output && l + 1 == dim.layers;
    const auto rows_of = [&](std::size_t t) { return std::min(tile, fresh - t * tile); };
    const auto project = [&](std::size_t t, float* qkv) {
      const std::size_t first = t * tile, rows = rows_of(t);
      project_qkv(stack, stack.layers[l], x + first * emb, rows, rotation + first, keys_only, qkv);
      for (std::size_t r = 0; r < rows; ++r) {
        const float* keys = qkv + r * width + dim.query_width();
        remember(cache, l, known + first + r, keys, keys + dim.kv_width());
      }
    };
    const auto finish = [&](std::size_t t, const float* qkv) {
      const std::size_t first = t * tile, rows = rows_of(t);
      float* attended = Buffers::grow(buffers().attended, rows * dim.query_width());
      const auto sight = [&](std::size_t r) { return Sight{stack.causal ? known + first + r + 1 : tokens, false}; };
      attend(stack, cache, l, qkv, rows, sight(rows - 1).keys, sight, attended);
      finish_layer(stack, stack.layers[l], attended, rows, x + first * emb);
    };
    if (one_pass) {
      for (std::size_t t = 0; t < tiles; ++t) {
        float* qkv = Buffers::grow(buffers().qkv, rows_of(t) * width);
        project(t, qkv);
        if (!keys_only) finish(t, qkv);
      }
      continue;
    }
    crew.loop(tiles, [&](std::size_t t) { project(t, queries.data() + t * tile * width); });
    // The last tiles see the most keys and go first, so that no one waits for a long one at the end.
    if (!keys_only)
      crew.loop(tiles, [&](std::size_t i) {
        const std::size_t t = tiles - 1 - i;
        finish(t, queries.data() + t * tile * width);
      });
  }
}

void candidates(const Stack& stack, const ContextCache& cache, float* x, const Rotation* rotation,
                const std::uint8_t* valid, std::size_t rows) {
  const Dimensions& dim = stack.dim;
  const std::size_t emb = dim.emb_pad(), width = dim.query_width() + 2 * dim.kv_width();
  for (std::size_t first = 0; first < rows; first += kTileRows) {
    const std::size_t tile = std::min(kTileRows, rows - first);
    for (std::size_t l = 0; l < dim.layers; ++l) {
      float* qkv = Buffers::grow(buffers().qkv, tile * width);
      float* attended = Buffers::grow(buffers().attended, tile * dim.query_width());
      project_qkv(stack, stack.layers[l], x + first * emb, tile, rotation + first, false, qkv);
      attend(
          stack, cache, l, qkv, tile, cache.tokens,
          [&](std::size_t r) { return Sight{cache.tokens, valid[first + r] != 0}; }, attended);
      finish_layer(stack, stack.layers[l], attended, tile, x + first * emb);
    }
  }
}

template <class Function>
void elementwise(float* x, std::size_t count, Function f) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, f(load(x + i)));
  for (; i < count; ++i) x[i] = f(splat(x[i]))[0];
}

void exp_all(float* x, std::size_t count) {
  elementwise(x, count, [](Vec v) { return phoenix::XFAST_ISA_NS::exp(v); });
}
void tanh_all(float* x, std::size_t count) {
  elementwise(x, count, [](Vec v) { return phoenix::XFAST_ISA_NS::tanh(v); });
}
void sigmoid_all(float* x, std::size_t count) {
  elementwise(x, count, [](Vec v) { return phoenix::XFAST_ISA_NS::sigmoid(v); });
}
void gelu_all(float* x, std::size_t count) {
  elementwise(x, count, [](Vec v) { return phoenix::XFAST_ISA_NS::gelu(v); });
}
void silu_all(float* x, std::size_t count) {
  elementwise(x, count, [](Vec v) { return v * phoenix::XFAST_ISA_NS::sigmoid(v); });
}

void logit_weight_all(float* x, std::size_t count, float multiplier) {
  const Vec factor = splat(logit_factor(multiplier));
  elementwise(x, count, [factor](Vec v) { return logit_weight(v, factor); });
}

void coarse_logit_weight_all(float* x, std::size_t count, float multiplier) {
  const Vec factor = splat(coarse_logit_factor(multiplier));
  elementwise(x, count, [factor](Vec v) { return coarse_logit_weight(v, factor); });
}
void coarse_gelu_all(float* x, std::size_t count) {
  elementwise(x, count, [](Vec v) { return coarse_gated_gelu(v, splat(1.0f)); });
}

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {linear,
                          context,
                          candidates,
                          rms_norm,
                          exp_all,
                          tanh_all,
                          sigmoid_all,
                          gelu_all,
                          silu_all,
                          logit_weight_all,
                          coarse_logit_weight_all,
                          coarse_gelu_all};

}  // namespace xfast::phoenix::XFAST_ISA_NS
