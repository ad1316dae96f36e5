// What one core of this machine can do: multiply-add rates of the instructions that the engine uses, and read rates.
//
// c++ -O2 -std=c++20 peaks.cpp -o peaks && ./peaks       prints one JSON object: GFLOP/s (GOP/s for int8) and GB/s.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace {

template <class F>
double fastest(F body, int rounds = 15) {
  double best = 1e9;
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

constexpr long kSteps = 200'000;
constexpr int kSums = 12;  // independent of one another, so that latency hides

// The assembler text keeps the compiler from doing anything clever; the sums are separate variables, so that they stay
// in registers.
#define RATE(NAME, TARGET, INSTRUCTION, TYPE)                                                                          \
  __attribute__((target(TARGET), noinline)) void NAME() {                                                              \
    TYPE s0 = {}, s1 = {}, s2 = {}, s3 = {}, s4 = {}, s5 = {}, s6 = {}, s7 = {}, s8 = {}, s9 = {}, s10 = {}, s11 = {}, \
         x = {}, y = {};                                                                                               \
    for (long i = 0; i < kSteps; ++i) {                                                                                \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s0) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s1) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s2) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s3) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s4) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s5) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s6) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s7) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s8) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s9) : "v"(x), "v"(y));                                             \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s10) : "v"(x), "v"(y));                                            \
      asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(s11) : "v"(x), "v"(y));                                            \
    }                                                                                                                  \
  }

RATE(avx2_f32, "avx2,fma", "vfmadd231ps", __m256)
RATE(avx512_f32, "avx512f", "vfmadd231ps", __m512)
RATE(avx512_bf16, "avx512f", "vdpbf16ps", __m512)
RATE(avx512_int8, "avx512f", "vpdpbusd", __m512i)

__attribute__((target("avx2"))) double read(std::size_t bytes) {
  std::vector<char> memory(bytes + 64, 1);
  const char* p = memory.data() + (64 - reinterpret_cast<std::size_t>(memory.data()) % 64) % 64;
  const std::size_t times = std::max<std::size_t>(1, (std::size_t{64} << 20) / bytes);
  const double seconds = fastest(
      [&] {
        for (std::size_t t = 0; t < times; ++t)
          for (std::size_t i = 0; i + 128 <= bytes; i += 128)
            asm volatile(
                "vmovdqa (%0), %%ymm0\n vmovdqa 32(%0), %%ymm1\n vmovdqa 64(%0), %%ymm2\n vmovdqa 96(%0), %%ymm3"
                :
                : "r"(p + i)
                : "ymm0", "ymm1", "ymm2", "ymm3");
      },
      5);
  return static_cast<double>(times * bytes) / seconds / 1e9;
}

}  // namespace

int main() {
  __builtin_cpu_init();
  const auto rate = [](void (*loop)(), int per_instruction) {
    return static_cast<double>(kSteps) * kSums * per_instruction / fastest(loop) / 1e9;
  };
  std::printf("{");
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni"))
    std::printf("\"float32\": %.1f, \"bfloat16\": %.1f, \"int8\": %.1f, ", rate(avx512_f32, 32), rate(avx512_bf16, 64),
                rate(avx512_int8, 128));
  else
    std::printf("\"float32\": %.1f, ", rate(avx2_f32, 16));
  std::printf("\"read_l1\": %.1f, \"read_l2\": %.1f, \"read_l3\": %.1f, \"read_memory\": %.1f}\n", read(16 << 10),
              read(384 << 10), read(8 << 20), read(std::size_t{512} << 20));
}
