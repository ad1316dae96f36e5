// The engine's parts against double precision, per instruction set and precision, and the bit-equality promise.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "common/thread_pool.h"
#include "phoenix/packed.h"
#include "phoenix/transformer.h"
#include "tests/check.h"

namespace xfast::phoenix::amx_emulated {
extern const Kernels kKernels;  // forward_isa.cpp compiled with XFAST_AMX_EMULATION
}

namespace {

using namespace xfast;
using namespace xfast::phoenix;

std::mt19937 generator(3);

std::vector<float> normal(std::size_t count, float scale = 1.0f) {
  std::normal_distribution<float> draw(0.0f, scale);
  std::vector<float> values(count);
  for (float& v : values) v = draw(generator);
  return values;
}

void check_near(double got, double expected, double bound, const char* what) {
  if (std::fabs(got - expected) <= bound) return;
  ++check::failures();
  std::cerr << what << " is " << got << ", expected " << expected << " within " << bound << '\n';
}

void check_elementary(const Kernels& run) {
  std::vector<float> xs;
  for (int i = -2000; i <= 2000; ++i) xs.push_back(static_cast<float>(i) * 0.0437f);
  for (int e = -30; e < 4; ++e)
    for (float sign : {-1.0f, 1.0f}) xs.push_back(sign * 1.37f * std::ldexp(1.0f, e));
  const auto apply = [&](void (*f)(float*, std::size_t)) {
    std::vector<float> y = xs;
    f(y.data(), y.size());
    return y;
  };
  const auto exps = apply(run.exp), tanhs = apply(run.tanh), sigmoids = apply(run.sigmoid), gelus = apply(run.gelu),
             silus = apply(run.silu);
  const auto coarse_gelus = apply(run.coarse_gelu);
  std::vector<float> weights = xs, coarse_weights = xs;
  run.logit_weight(weights.data(), weights.size(), 1.0f);
  for (float& x : coarse_weights) x *= 3;  // to where the cap has set in
  run.coarse_logit_weight(coarse_weights.data(), coarse_weights.size(), 1.0f);
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const double x = xs[i], e = std::exp(x);
    if (std::fabs(x) < 87) check_near(exps[i], e, 2.5e-7 * e, "exp");
    check_near(tanhs[i], std::tanh(x), 4e-7 * std::fabs(std::tanh(x)), "tanh");
    check_near(sigmoids[i], 1 / (1 + std::exp(-x)), 3e-7, "sigmoid");
    const double logit = 30 * std::tanh(x / 30), weight = std::exp(logit);
    check_near(weights[i], weight, (2.5e-7 + 2e-7 * std::fabs(logit)) * weight, "logit weight");
    const double coarse = std::exp(30 * std::tanh(x / 10));
    check_near(coarse_weights[i], coarse, (std::fabs(x) < 50 ? 8e-4 : 1.7e-3) * coarse, "coarse logit weight");
    check_near(silus[i], x / (1 + std::exp(-x)), 4e-7 * std::max(1.0, std::fabs(x)), "silu");
    const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    check_near(gelus[i], 0.5 * x * (1 + std::tanh(u)), 5e-7 * std::max(1.0, std::fabs(x)), "gelu");
    check_near(coarse_gelus[i], 0.5 * x * (1 + std::tanh(u)), 2e-5 * std::fabs(x) + 1e-7, "coarse gelu");
  }
}

void check_linear(const Kernels& run, Precision precision) {
  for (std::size_t rows : {1u, 2u, 5u, 11u, 12u, 13u, 37u})
    for (std::size_t inputs : {1u, 3u, 8u, 31u, 64u, 130u})
      for (std::size_t columns : {16u, 32u, 48u, 112u}) {
        const std::vector<float> a = normal(rows * inputs), w = normal(inputs * columns);
        const PackedMatrix packed = pack(w, inputs, columns, precision);
        std::vector<float> c(rows * columns);
        run.linear(packed, a.data(), inputs, rows, c.data(), columns, 0);
        for (std::size_t r = 0; r < rows; ++r) {
          float one[112];
          run.linear(packed, a.data() + r * inputs, inputs, 1, one, columns, 0);
          CHECK(std::memcmp(one, c.data() + r * columns, columns * sizeof(float)) == 0);
          double norm_a = 0;
          for (std::size_t k = 0; k < inputs; ++k) norm_a += a[r * inputs + k] * a[r * inputs + k];
          for (std::size_t n = 0; n < columns; ++n) {
            double exact = 0, norm_w = 0;
            for (std::size_t k = 0; k < inputs; ++k) {
              exact += static_cast<double>(a[r * inputs + k]) * w[k * columns + n];
              norm_w += w[k * columns + n] * w[k * columns + n];
            }
            const double size = std::sqrt(norm_a * norm_w) + 1e-6;
            const double unit = precision == Precision::float32 ? 2e-6 : precision == Precision::bfloat16 ? 8e-3 : 5e-2;
            check_near(c[r * columns + n], exact, unit * size, "a @ w");
          }
        }
      }
}

// Integer sums are exact, so the int8 path must agree between instruction sets to the bit.
void check_int8_across(const Kernels& one, const Kernels& other) {
  const std::vector<float> a = normal(7 * 130), w = normal(130 * 48);
  const PackedMatrix packed = pack(w, 130, 48, Precision::int8);
  std::vector<float> x(7 * 48), y(7 * 48);
  one.linear(packed, a.data(), 130, 7, x.data(), 48, 0);
  other.linear(packed, a.data(), 130, 7, y.data(), 48, 0);
  CHECK(std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
}

// The numbers that a packed matrix holds, for transcriptions in double precision.
struct Dense {
  std::size_t rows, columns;
  std::vector<float> numbers;
};
std::vector<std::vector<Dense>>& dense_layers() {
  static std::vector<std::vector<Dense>> layers;
  return layers;
}
const std::vector<Dense>& dense_of(const Stack&, std::size_t layer) { return dense_layers()[layer]; }

Stack make_stack(const Dimensions& dim, Precision precision, bool causal) {
  Stack stack;
  dense_layers().clear();
  stack.dim = dim;
  stack.attention_multiplier = 0.125f;
  stack.causal = causal;
  // `used` says which columns are not padding.
  const auto dense = [&](std::size_t rows, std::size_t columns, auto used) {
    std::vector<float> numbers = normal(rows * columns, 1.0f / std::sqrt(static_cast<float>(rows)));
    for (std::size_t i = 0; i < numbers.size(); ++i)
      if (!used(i / columns, i % columns)) numbers[i] = 0;
    dense_layers().back().push_back({rows, columns, numbers});
    return pack(numbers, rows, columns, precision);
  };
  const auto in_head = [&](std::size_t n) { return n % dim.head_pad() < dim.head; };
  for (std::size_t l = 0; l < dim.layers; ++l) {
    Layer layer;
    dense_layers().emplace_back();
    layer.qkv =
        dense(dim.emb, dim.query_width() + 2 * dim.kv_width(), [&](std::size_t, std::size_t n) { return in_head(n); });
    layer.out = dense(dim.query_width(), dim.emb_pad(),
                      [&](std::size_t k, std::size_t n) { return in_head(k) && n < dim.emb; });
    layer.gated = dense(dim.emb, 2 * dim.ffn_pad(), [&](std::size_t, std::size_t n) {
      return n / (2 * kColumns) * kColumns + n % kColumns < dim.ffn;
    });
    layer.down = dense(dim.ffn, dim.emb_pad(), [&](std::size_t, std::size_t n) { return n < dim.emb; });
    for (auto& norm : layer.norm) {
      norm = Aligned<float>(dim.emb_pad());
      for (std::size_t i = 0; i < dim.emb; ++i) norm[i] = 1.0f + 0.01f * static_cast<float>(i);
    }
    stack.layers.push_back(std::move(layer));
  }
  return stack;
}

// A candidate's row is the same to the bit in any batch and place; a context grown by one token keeps its other rows.
void check_bit_equality(const Kernels& run, Precision precision, const KvFormat& kv, const Dimensions& dim,
                        std::size_t threads) {
  const Workers workers{threads};
  const Stack stack = make_stack(dim, precision, true);
  const std::size_t half = dim.head / 2, tokens = 61, count = 77;
  const std::vector<float> angles = normal((tokens + count) * dim.head);
  std::vector<Rotation> rotation;
  for (std::size_t i = 0; i < tokens + count; ++i)
    rotation.push_back({angles.data() + i * dim.head, angles.data() + i * dim.head + half});
  const std::vector<float> context = normal(tokens * dim.emb_pad()), posts = normal(count * dim.emb_pad());
  const auto encode = [&](std::size_t n, bool keep, std::vector<float>& x) {
    x.assign(context.begin(), context.begin() + static_cast<std::ptrdiff_t>(n * dim.emb_pad()));
    ContextCache cache(dim, kv, n);
    run.context(stack, x.data(), rotation.data(), cache, 0, keep, workers);
    return cache;
  };
  std::vector<float> whole, part;
  const ContextCache cache = encode(tokens, true, whole);
  for (std::size_t n : {1u, 2u, 12u, 47u, 48u, 60u}) {
    encode(n, true, part);
    CHECK(std::memcmp(whole.data(), part.data(), part.size() * sizeof(float)) == 0);
  }
  // Tokens appended to a shorter context, one or several at a time, and a context put back from plain arrays: same
  // bits.
  const auto plain = [](const ContextCache& c) {
    std::vector<float> numbers(2 * c.dim.layers * c.dim.kv_heads * c.tokens * c.dim.head);
    c.unpack(numbers.data(), numbers.data() + numbers.size() / 2);
    return numbers;
  };
  const std::vector<float> everything = plain(cache);
  for (std::size_t n : {0u, 1u, 31u, 32u, 47u, 60u}) {
    const auto grown = encode(n, false, part).grown(tokens - n);
    part.assign(context.begin() + static_cast<std::ptrdiff_t>(n * dim.emb_pad()), context.end());
    run.context(stack, part.data(), rotation.data() + n, *grown, n, false, Workers{});
    CHECK(plain(*grown) == everything);
  }
  ContextCache restored(dim, kv, tokens);
  restored.pack(everything.data(), everything.data() + everything.size() / 2);
  CHECK(plain(restored) == everything);
  const std::vector<std::uint8_t> valid(count, 1);
  std::vector<float> all = posts;
  run.candidates(stack, cache, all.data(), rotation.data() + tokens, valid.data(), count);
  for (std::size_t size : {1u, 3u, 13u, 48u})
    for (std::size_t first = 0; first + size <= count; first += 7) {
      std::vector<float> some(posts.begin() + static_cast<std::ptrdiff_t>(first * dim.emb_pad()),
                              posts.begin() + static_cast<std::ptrdiff_t>((first + size) * dim.emb_pad()));
      run.candidates(stack, cache, some.data(), rotation.data() + tokens + first, valid.data(), size);
      CHECK(std::memcmp(some.data(), all.data() + first * dim.emb_pad(), some.size() * sizeof(float)) == 0);
    }
  // An empty context, and rows that see nothing at all, stay finite.
  const ContextCache empty(dim, kv, 0);
  std::vector<std::uint8_t> nobody(count, 0);
  std::vector<float> alone = posts;
  run.candidates(stack, empty, alone.data(), rotation.data() + tokens, nobody.data(), count);
  for (float v : alone) CHECK(std::isfinite(v));
}

// Attention with many key blocks, any storage, against double precision on the numbers that the cache holds.
void check_attention(const Kernels& run, const KvFormat& kv, const Dimensions& dim, std::size_t tokens) {
  const Precision precision = kv.arithmetic;
  Stack stack = make_stack(dim, precision, true);
  const std::size_t rows = 3, emb = dim.emb_pad();
  ContextCache cache(dim, kv, tokens);
  const std::size_t plain = dim.layers * dim.kv_heads * tokens * dim.head;
  std::vector<float> keys = normal(plain, 2.0f), values = normal(plain);
  cache.pack(keys.data(), values.data());
  cache.unpack(keys.data(), values.data());
  ContextCache again(dim, kv, tokens);
  again.pack(keys.data(), values.data());
  std::vector<float> keys_again(plain), values_again(plain);
  again.unpack(keys_again.data(), values_again.data());
  CHECK(keys == keys_again);
  CHECK(values == values_again);
  std::vector<float> one(dim.head, 1.0f), zero(dim.head, 0.0f);
  const std::vector<Rotation> rotation(rows, Rotation{one.data(), zero.data()});
  std::vector<std::uint8_t> valid = {1, 0, 1};
  std::vector<float> x = normal(rows * emb);
  for (std::size_t r = 0; r < rows; ++r) std::fill_n(x.data() + r * emb + dim.emb, emb - dim.emb, 0.0f);
  const std::vector<float> before = x;
  run.candidates(stack, cache, x.data(), rotation.data(), valid.data(), rows);
  const auto product = [](const std::vector<double>& a, const Dense& w) {
    std::vector<double> c(w.columns, 0.0);
    for (std::size_t k = 0; k < w.rows; ++k)
      for (std::size_t n = 0; n < w.columns; ++n) c[n] += a[k] * w.numbers[k * w.columns + n];
    return c;
  };
  const auto normed = [&](const std::vector<double>& a, const Aligned<float>& scale) {
    double squares = 0;
    for (std::size_t i = 0; i < dim.emb; ++i) squares += a[i] * a[i];
    std::vector<double> out(a.size(), 0.0);
    for (std::size_t i = 0; i < dim.emb; ++i)
      out[i] = a[i] * scale[i] / std::sqrt(squares / static_cast<double>(dim.emb) + 1e-5);
    return out;
  };
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<double> h(before.begin() + static_cast<std::ptrdiff_t>(r * emb),
                          before.begin() + static_cast<std::ptrdiff_t>((r + 1) * emb));
    for (std::size_t l = 0; l < dim.layers; ++l) {
      const Layer& layer = stack.layers[l];
      const std::vector<Dense>& dense = dense_of(stack, l);
      const auto qkv = product(normed(h, layer.norm[0]), dense[0]);
      std::vector<double> mixed(dim.query_width(), 0.0);
      for (std::size_t q = 0; q < dim.query_heads; ++q) {
        const std::size_t g = q / (dim.query_heads / dim.kv_heads), pad = dim.head_pad();
        const double* query = qkv.data() + q * pad;
        const double* own = qkv.data() + dim.query_width() + g * pad;
        const std::size_t at = (l * dim.kv_heads + g) * tokens * dim.head;
        double total = 0;
        const auto add = [&](double dot, auto value) {
          const double weight = std::exp(30 * std::tanh(dot * stack.attention_multiplier / 30));
          total += weight;
          for (std::size_t i = 0; i < dim.head; ++i) mixed[q * pad + i] += weight * value(i);
        };
        for (std::size_t t = 0; t < tokens; ++t) {
          double dot = 0;
          for (std::size_t i = 0; i < dim.head; ++i) dot += query[i] * keys[at + t * dim.head + i];
          add(dot, [&](std::size_t i) { return static_cast<double>(values[at + t * dim.head + i]); });
        }
        if (valid[r] != 0) {
          double dot = 0;
          for (std::size_t i = 0; i < dim.head; ++i) dot += query[i] * own[i];
          add(dot, [&](std::size_t i) { return own[dim.kv_width() + i]; });
        }
        for (std::size_t i = 0; i < dim.head; ++i) mixed[q * pad + i] /= total > 0 ? total : 1;
      }
      const auto out = normed(product(mixed, dense[1]), layer.norm[1]);
      for (std::size_t i = 0; i < dim.emb; ++i) h[i] += out[i];
      const auto gated = product(normed(h, layer.norm[2]), dense[2]);
      std::vector<double> active(dim.ffn);
      for (std::size_t j = 0; j < dim.ffn; ++j) {
        const std::size_t n = j / kColumns * 2 * kColumns + j % kColumns;
        const double u = std::sqrt(2 / M_PI) * (gated[n] + 0.044715 * gated[n] * gated[n] * gated[n]);
        active[j] = 0.5 * gated[n] * (1 + std::tanh(u)) * gated[n + kColumns];
      }
      const auto down = normed(product(active, dense[3]), layer.norm[3]);
      for (std::size_t i = 0; i < dim.emb; ++i) h[i] += down[i];
    }
    const double bound = precision == Precision::float32 ? 2e-4 : 0.15;
    for (std::size_t i = 0; i < dim.emb; ++i) check_near(x[r * emb + i], h[i], bound, "a layer's output");
  }
}

// Random shapes, mostly for the sanitizers: every precision, storage, number of threads, odd sizes of everything.
void check_random_shapes(const Kernels& run, int rounds) {
  const auto pick = [](std::initializer_list<std::size_t> from) {
    return *(from.begin() + std::uniform_int_distribution<std::size_t>(0, from.size() - 1)(generator));
  };
  for (int round = 0; round < rounds; ++round) {
    const std::size_t kv_heads = pick({1, 2, 3});
    const Dimensions dim = {pick({1, 5, 16, 21, 40}),     pick({1, 2}),
                            kv_heads * pick({1, 2, 3}),   kv_heads,
                            pick({1, 3, 8, 33, 64, 128}), pick({1, 7, 16, 25, 40})};
    const Precision precision = static_cast<Precision>(pick({0, 1, 2}));
    const Precision arithmetic = precision == Precision::float32 ? precision : Precision::bfloat16;
    const KvFormat kv = {
        static_cast<Precision>(std::max<std::size_t>(pick({0, 1, 2}), static_cast<std::size_t>(arithmetic))),
        arithmetic};
    check_bit_equality(run, precision, kv, dim, pick({1, 2, 3}));
  }
}

void check_pool() {
  std::vector<int> seen(1000, 0);
  parallel_for(seen.size(), 4, [&](std::size_t i) { seen[i] += static_cast<int>(i); });
  for (std::size_t i = 0; i < seen.size(); ++i) CHECK_EQ(seen[i], static_cast<int>(i));
  bool thrown = false;
  try {
    parallel_for(50, 2, [](std::size_t i) {
      if (i == 17) throw std::runtime_error("seventeen");
    });
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  CHECK(thrown);
}

const Dimensions kSmall = {16, 2, 4, 2, 16, 24};

void check_precision(const Kernels& run, Precision precision) {
  check_linear(run, precision);
  const Precision arithmetic = precision == Precision::float32 ? precision : Precision::bfloat16;
  for (Precision storage : {Precision::float32, Precision::bfloat16, Precision::int8})
    if (storage >= arithmetic) check_bit_equality(run, precision, {storage, arithmetic}, kSmall, 2);
  // Wide enough that the context is shared among threads.
  check_bit_equality(run, precision, {arithmetic, arithmetic}, {112, 2, 4, 2, 16, 160}, 3);
}

}  // namespace

int main() {
  for (int level = 0; level <= static_cast<int>(detected_isa()); ++level) {
    const Kernels& run = kernels(static_cast<Isa>(level));
    check_elementary(run);
    check_int8_across(run, kernels(Isa::scalar));
    for (Precision precision : {Precision::float32, Precision::bfloat16, Precision::int8})
      check_precision(run, precision);
    for (Precision arithmetic : {Precision::float32, Precision::bfloat16})
      for (Precision storage : {Precision::float32, Precision::bfloat16, Precision::int8})
        if (storage >= arithmetic)
          for (std::size_t tokens : {1u, 33u, 1100u})
            check_attention(run, {storage, arithmetic}, {21, 2, 4, 2, 6, 19}, tokens);
    check_random_shapes(run, 12);
  }
#if defined(__x86_64__)
  if (detected_isa() >= Isa::avx512) {
    const Kernels& run = amx_emulated::kKernels;
    check_int8_across(run, kernels(Isa::scalar));
    for (Precision precision : {Precision::bfloat16, Precision::int8}) check_precision(run, precision);
  }
#endif
  check_pool();
  return check::failures() != 0;
}
