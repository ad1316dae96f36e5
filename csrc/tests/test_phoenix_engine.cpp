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
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const double x = xs[i], e = std::exp(x);
    if (std::fabs(x) < 87) check_near(exps[i], e, 2.5e-7 * e, "exp");
    check_near(tanhs[i], std::tanh(x), 4e-7 * std::fabs(std::tanh(x)), "tanh");
    check_near(sigmoids[i], 1 / (1 + std::exp(-x)), 3e-7, "sigmoid");
    check_near(silus[i], x / (1 + std::exp(-x)), 4e-7 * std::max(1.0, std::fabs(x)), "silu");
    const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    check_near(gelus[i], 0.5 * x * (1 + std::tanh(u)), 5e-7 * std::max(1.0, std::fabs(x)), "gelu");
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

Stack make_stack(const Dimensions& dim, Precision precision, bool causal) {
  Stack stack;
  stack.dim = dim;
  stack.attention_multiplier = 0.125f;
  stack.causal = causal;
  stack.kv_precision = precision == Precision::float32 ? Precision::float32 : Precision::bfloat16;
  const auto dense = [&](std::size_t rows, std::size_t columns) {
    return pack(normal(rows * columns, 1.0f / std::sqrt(static_cast<float>(rows))), rows, columns, precision);
  };
  for (std::size_t l = 0; l < dim.layers; ++l) {
    Layer layer;
    layer.qkv = dense(dim.emb, dim.query_width() + 2 * dim.kv_width());
    layer.out = dense(dim.query_width(), dim.emb_pad());
    layer.gated = dense(dim.emb, 2 * dim.ffn_pad());
    layer.down = dense(dim.ffn, dim.emb_pad());
    for (auto& norm : layer.norm) {
      norm = Aligned<float>(dim.emb_pad());
      for (std::size_t i = 0; i < dim.emb; ++i) norm[i] = 1.0f + 0.01f * static_cast<float>(i);
    }
    stack.layers.push_back(std::move(layer));
  }
  return stack;
}

// A candidate's row is the same to the bit in any batch and place; a context grown by one token keeps its other rows.
void check_bit_equality(const Kernels& run, Precision precision) {
  const Dimensions dim = {16, 2, 4, 2, 16, 24};
  const Stack stack = make_stack(dim, precision, true);
  const std::size_t half = dim.head / 2, tokens = 61, count = 77;
  const std::vector<float> angles = normal((tokens + count) * dim.head);
  std::vector<Rotation> rotation;
  for (std::size_t i = 0; i < tokens + count; ++i)
    rotation.push_back({angles.data() + i * dim.head, angles.data() + i * dim.head + half});
  const std::vector<float> context = normal(tokens * dim.emb_pad()), posts = normal(count * dim.emb_pad());
  const auto encode = [&](std::size_t n, bool keep, std::vector<float>& x) {
    x.assign(context.begin(), context.begin() + static_cast<std::ptrdiff_t>(n * dim.emb_pad()));
    ContextCache cache(dim, stack.kv_precision, n);
    run.context(stack, x.data(), rotation.data(), cache, 0, keep);
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
    run.context(stack, part.data(), rotation.data() + n, *grown, n, false);
    CHECK(plain(*grown) == everything);
  }
  ContextCache restored(dim, stack.kv_precision, tokens);
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
  const ContextCache empty(dim, stack.kv_precision, 0);
  std::vector<std::uint8_t> nobody(count, 0);
  std::vector<float> alone = posts;
  run.candidates(stack, empty, alone.data(), rotation.data() + tokens, nobody.data(), count);
  for (float v : alone) CHECK(std::isfinite(v));
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

}  // namespace

int main() {
  for (int level = 0; level <= static_cast<int>(detected_isa()); ++level) {
    const Kernels& run = kernels(static_cast<Isa>(level));
    check_elementary(run);
    check_int8_across(run, kernels(Isa::scalar));
    for (Precision precision : {Precision::float32, Precision::bfloat16, Precision::int8}) {
      check_linear(run, precision);
      check_bit_equality(run, precision);
    }
  }
#if defined(__x86_64__)
  if (detected_isa() >= Isa::avx512) {
    const Kernels& run = amx_emulated::kKernels;
    check_int8_across(run, kernels(Isa::scalar));
    for (Precision precision : {Precision::bfloat16, Precision::int8}) {
      check_linear(run, precision);
      check_bit_equality(run, precision);
    }
  }
#endif
  check_pool();
  return check::failures() != 0;
}
