// The transformer's forward pass; compiled once per instruction set.
#include "phoenix/multiply.h"
#include "phoenix/transformer.h"
#if defined(XFAST_ISA_amx)
#include "phoenix/amx.h"
#endif

namespace xfast::phoenix::XFAST_ISA_NS {
namespace {

constexpr float kSoftCap = 30.0f;       // PHOENIX §3.3
constexpr float kNormEpsilon = 1e-5f;   // PHOENIX §3.2
constexpr std::size_t kRowsAhead = 32;  // activations have room for this many rows at a time: a tile reads whole blocks
constexpr std::size_t kTileRows = 4 * kRows;  // rows that pass through all layers together and stay in the first caches

// Grow-only scratch memory of one thread, so that a request allocates nothing once warm.
struct Buffers {
  Aligned<float> hidden, qkv, attended, projected, gated, activated, scores, row_scale;
  Aligned<std::uint16_t> half, query_half, weight_half;
  Aligned<std::uint8_t> bytes;

  template <class T>
  static T* grow(Aligned<T>& memory, std::size_t size) {
    if (memory.size() < size) memory = Aligned<T>(size + size / 4);
    return memory.data();
  }
};

Buffers& buffers() {
  thread_local Buffers mine;
  return mine;
}

void linear(const PackedMatrix& w, const float* a, std::size_t lda, std::size_t rows, float* c, std::size_t ldc,
            std::size_t first) {
  first = first / kPanel * kPanel;
  Buffers& b = buffers();
  if (w.precision == Precision::float32) {
    Panels<float> panels = float_panels(w);
    panels.data += first / kPanel * panels.panel_stride;
    panels.columns -= first;
    multiply(a, lda, rows, panels, c + first, ldc);
  } else if (w.precision == Precision::bfloat16) {
    const std::size_t width = round_up(w.rows, kDeepBfloat16);
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
    const std::size_t width = round_up(w.rows, kDeepInt8);
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

// The cache's blocks of one layer and key head.
struct Head {
  float* keys_f32;
  float* values_f32;
  std::uint16_t* keys_bf16;
  std::uint16_t* values_bf16;
};

Head head_of(const ContextCache& cache, std::size_t layer, std::size_t head) {
  const std::size_t block = layer * cache.dim.kv_heads + head;
  const std::size_t keys = block * cache.keys_per_head(), values = block * cache.values_per_head();
  auto& c = const_cast<ContextCache&>(cache);
  if (cache.precision == Precision::float32)
    return {c.keys_f32.data() + keys, c.values_f32.data() + values, nullptr, nullptr};
  return {nullptr, nullptr, c.keys_bf16.data() + keys, c.values_bf16.data() + values};
}

// Store one token's key and value.
void remember(const ContextCache& cache, std::size_t layer, std::size_t token, const float* keys, const float* values) {
  const Dimensions& dim = cache.dim;
  const std::size_t panel = token / kPanel, column = token % kPanel;
  for (std::size_t g = 0; g < dim.kv_heads; ++g) {
    const Head head = head_of(cache, layer, g);
    const float* key = keys + g * dim.head_pad();
    const float* value = values + g * dim.head_pad();
    if (cache.precision == Precision::float32) {
      float* k = head.keys_f32 + panel * kPanel * dim.head + column;
      for (std::size_t i = 0; i < dim.head; ++i) k[i * kPanel] = key[i];
      std::memcpy(head.values_f32 + token * dim.head_pad(), value, dim.head_pad() * sizeof(float));
    } else {
      std::uint16_t* k = head.keys_bf16 + panel * kPanel * round_up(dim.head, 2) + 2 * column;
      for (std::size_t i = 0; i < dim.head; ++i) k[i / 2 * 2 * kPanel + i % 2] = to_bfloat16(key[i]);
      std::uint16_t* v = head.values_bf16 + token / 2 * 2 * dim.head_pad() + token % 2;
      for (std::size_t i = 0; i < dim.head_pad(); ++i) v[2 * i] = to_bfloat16(value[i]);
    }
  }
}

Panels<float> key_panels(const ContextCache& cache, const Head& head, std::size_t columns, float) {
  return {head.keys_f32, kPanel * cache.dim.head, kPanel, cache.dim.head, columns};
}
Panels<std::uint16_t> key_panels(const ContextCache& cache, const Head& head, std::size_t columns, std::uint16_t) {
  const std::size_t pairs = (cache.dim.head + 1) / 2;
  return {head.keys_bf16, 2 * kPanel * pairs, 2 * kPanel, pairs, columns};
}
Panels<float> value_panels(const ContextCache& cache, const Head& head, std::size_t tokens, float) {
  return {head.values_f32, kPanel, cache.dim.head_pad(), tokens, cache.dim.head_pad()};
}
Panels<std::uint16_t> value_panels(const ContextCache& cache, const Head& head, std::size_t tokens, std::uint16_t) {
  return {head.values_bf16, 2 * kPanel, 2 * cache.dim.head_pad(), (tokens + 1) / 2, cache.dim.head_pad()};
}

Vec capped(Vec dot, float multiplier) { return tanh(dot * (multiplier / kSoftCap)) * kSoftCap; }

// What a row may attend to: the first `keys` cached tokens, and itself.
struct Sight {
  std::size_t keys;
  bool self;
};

// Unnormalised softmax weights of one row in place; returns 1 / their sum and the weight of the row's own key.
struct Weights {
  float inverse_sum;
  float self;
};

Weights soften(float* scores, std::size_t padded, Sight sight, float self_dot, float multiplier) {
  constexpr float kNever = -1e30f;
  const float self_score = sight.self ? capped(splat(self_dot), multiplier)[0] : kNever;
  Vec top = splat(self_score);
  const Vec limit = splat(static_cast<float>(sight.keys));
  Vec lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = static_cast<float>(i);
  for (std::size_t j = 0; j < padded; j += kLanes) {
    const Vec score = capped(load(scores + j), multiplier);
    const Vec kept = lane + static_cast<float>(j) < limit ? score : splat(kNever);
    store(scores + j, kept);
    top = max(top, kept);
  }
  const Vec most = splat(largest(top));
  if (sight.keys == 0 && !sight.self) {
    for (std::size_t j = 0; j < padded; j += kLanes) store(scores + j, Vec{});
    return {0.0f, 0.0f};
  }
  Vec total = {};
  for (std::size_t j = 0; j < padded; j += kLanes) {
    const Vec score = load(scores + j);
    const Vec weight = lane + static_cast<float>(j) < limit ? exp(score - most) : Vec{};
    store(scores + j, weight);
    total = total + weight;
  }
  const float self = sight.self ? exp(splat(self_score) - most)[0] : 0.0f;
  return {1.0f / (sum(total) + self), self};
}

float dot(const float* a, const float* b, std::size_t padded) {
  Vec acc = {};
  for (std::size_t i = 0; i < padded; i += kLanes) acc = fma(load(a + i), load(b + i), acc);
  return sum(acc);
}

// Attention of a tile: `qkv` rows hold query | key | value; the result goes to out [rows, query_width].
template <class T, class SightOf>
void attend(const Stack& stack, const ContextCache& cache, std::size_t layer, const float* qkv, std::size_t rows,
            std::size_t keys, SightOf sight_of, float* out) {
  const Dimensions& dim = cache.dim;
  const std::size_t head_pad = dim.head_pad(), ldq = dim.query_width() + 2 * dim.kv_width(), ldo = dim.query_width();
  const std::size_t padded = round_up(keys, kColumns), pairs = round_up(dim.head, 2);
  const std::size_t group = dim.query_heads / dim.kv_heads;
  Buffers& b = buffers();
  float* scores = Buffers::grow(b.scores, rows * padded + kLanes);
  for (std::size_t h = 0; h < dim.query_heads; ++h) {
    const std::size_t g = h / group;
    const Head head = head_of(cache, layer, g);
    const float* query = qkv + h * head_pad;
    const float* own_key = qkv + dim.query_width() + g * head_pad;
    const float* own_value = own_key + dim.kv_width();
    if (keys > 0) {
      if constexpr (sizeof(T) == 4) {
        multiply(query, ldq, rows, key_panels(cache, head, padded, T{}), scores, padded);
      } else {
        std::uint16_t* half = Buffers::grow(b.query_half, rows * pairs);
        to_bfloat16_rows(query, ldq, rows, dim.head, half, pairs);
        multiply(half, pairs, rows, key_panels(cache, head, padded, T{}), scores, padded);
      }
    }
    Weights weights[kTileRows];
    for (std::size_t r = 0; r < rows; ++r) {
      const Sight sight = sight_of(r);
      const float self_dot = sight.self ? dot(query + r * ldq, own_key + r * ldq, head_pad) : 0.0f;
      weights[r] = soften(scores + r * padded, padded, sight, self_dot, stack.attention_multiplier);
    }
    float* mixed = out + h * head_pad;
    if (keys > 0) {
      if constexpr (sizeof(T) == 4) {
        multiply(scores, padded, rows, value_panels(cache, head, keys, T{}), mixed, ldo);
      } else {
        std::uint16_t* half = Buffers::grow(b.weight_half, rows * padded);
        to_bfloat16_rows(scores, padded, rows, padded, half, padded);
        multiply(half, padded, rows, value_panels(cache, head, keys, T{}), mixed, ldo);
      }
    }
    for (std::size_t r = 0; r < rows; ++r) {
      float* row = mixed + r * ldo;
      const Vec self = splat(weights[r].self), inverse = splat(weights[r].inverse_sum);
      for (std::size_t i = 0; i < head_pad; i += kLanes) {
        const Vec context = keys > 0 ? load(row + i) : Vec{};
        store(row + i, fma(self, load(own_value + r * ldq + i), context) * inverse);
      }
    }
  }
}

template <class SightOf>
void attend(const Stack& stack, const ContextCache& cache, std::size_t layer, const float* qkv, std::size_t rows,
            std::size_t keys, SightOf sight_of, float* out) {
  if (cache.precision == Precision::float32)
    attend<float>(stack, cache, layer, qkv, rows, keys, sight_of, out);
  else
    attend<std::uint16_t>(stack, cache, layer, qkv, rows, keys, sight_of, out);
}

// norm, query | key | value, rotation of query and key.
float* project_qkv(const Stack& stack, const Layer& layer, const float* x, std::size_t rows, const Rotation* rotation,
                   bool keys_only) {
  const Dimensions& dim = stack.dim;
  Buffers& b = buffers();
  const std::size_t width = dim.query_width() + 2 * dim.kv_width();
  float* hidden = Buffers::grow(b.hidden, rows * dim.emb_pad());
  float* qkv = Buffers::grow(b.qkv, rows * width);
  rms_norm(x, layer.norm[0].data(), rows, dim.emb, dim.emb_pad(), hidden);
  linear(layer.qkv, hidden, dim.emb_pad(), rows, qkv, width, keys_only ? dim.query_width() : 0);
  for (std::size_t r = 0; r < rows; ++r) {
    if (!keys_only) rotate(qkv + r * width, dim.query_heads, dim, rotation[r]);
    rotate(qkv + r * width + dim.query_width(), dim.kv_heads, dim, rotation[r]);
  }
  return qkv;
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
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t j = 0; j < ffn; j += kLanes) {
      const float* gate = gated + r * 2 * ffn + j / kColumns * 2 * kColumns + j % kColumns;
      store(activated + r * ffn + j, phoenix::XFAST_ISA_NS::gelu(load(gate)) * load(gate + kColumns));
    }
  linear(layer.down, activated, ffn, rows, projected, emb, 0);
  add_normed(projected, layer.norm[3].data(), rows, dim.emb, emb, x);
}

void context(const Stack& stack, float* x, const Rotation* rotation, ContextCache& cache, std::size_t known,
             bool keep_output) {
  const Dimensions& dim = stack.dim;
  const std::size_t emb = dim.emb_pad(), width = dim.query_width() + 2 * dim.kv_width(), tokens = cache.tokens;
  const auto row = [&](std::size_t token) { return x + (token - known) * emb; };
  Aligned<float> queries(stack.causal ? 0 : tokens * width);
  for (std::size_t l = 0; l < dim.layers; ++l) {
    const bool keys_only = !keep_output && l + 1 == dim.layers;
    const auto remember_tile = [&](std::size_t first, std::size_t rows, const float* qkv) {
      for (std::size_t r = 0; r < rows; ++r) {
        const float* keys = qkv + r * width + dim.query_width();
        remember(cache, l, first + r, keys, keys + dim.kv_width());
      }
    };
    const auto finish_tile = [&](std::size_t first, std::size_t rows, const float* qkv) {
      float* attended = Buffers::grow(buffers().attended, rows * dim.query_width());
      const std::size_t keys = stack.causal ? first + rows : tokens;
      attend(
          stack, cache, l, qkv, rows, keys,
          [&](std::size_t r) { return Sight{stack.causal ? first + r + 1 : tokens, false}; }, attended);
      finish_layer(stack, stack.layers[l], attended, rows, row(first));
    };
    // Causal rows need only the keys before them; bidirectional ones need everybody's keys first.
    for (std::size_t first = known; first < tokens; first += kTileRows) {
      const std::size_t rows = std::min(kTileRows, tokens - first);
      const float* qkv = project_qkv(stack, stack.layers[l], row(first), rows, rotation + (first - known), keys_only);
      remember_tile(first, rows, qkv);
      if (keys_only) continue;
      if (stack.causal)
        finish_tile(first, rows, qkv);
      else
        std::memcpy(queries.data() + first * width, qkv, rows * width * sizeof(float));
    }
    if (!stack.causal && !keys_only)
      for (std::size_t first = 0; first < tokens; first += kTileRows)
        finish_tile(first, std::min(kTileRows, tokens - first), queries.data() + first * width);
  }
}

void candidates(const Stack& stack, const ContextCache& cache, float* x, const Rotation* rotation,
                const std::uint8_t* valid, std::size_t rows) {
  const Dimensions& dim = stack.dim;
  const std::size_t emb = dim.emb_pad();
  for (std::size_t first = 0; first < rows; first += kTileRows) {
    const std::size_t tile = std::min(kTileRows, rows - first);
    for (std::size_t l = 0; l < dim.layers; ++l) {
      const float* qkv = project_qkv(stack, stack.layers[l], x + first * emb, tile, rotation + first, false);
      float* attended = Buffers::grow(buffers().attended, tile * dim.query_width());
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

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {linear, context, candidates, rms_norm, exp_all, tanh_all, sigmoid_all, gelu_all, silu_all};

}  // namespace xfast::phoenix::XFAST_ISA_NS
