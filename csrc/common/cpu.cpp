#include "common/cpu.h"

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace xfast {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"scalar", "avx2", "avx512", "amx"};

#if defined(__x86_64__)
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  if ((d & kBf16) == 0 || (d & kTile) == 0 || (d & kInt8) == 0) return false;
#if defined(__linux__)
  // The kernel hands out the 8 KB tile state only to a process that asks (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}
#endif

Isa detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
    return Isa::scalar;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512bf16"))
    return Isa::avx2;
  return has_amx() ? Isa::amx : Isa::avx512;
#else
  return Isa::scalar;
#endif
}

Isa choose() {
  const char* wanted = std::getenv("XFAST_ISA");
  if (wanted == nullptr || *wanted == '\0') return detected_isa();
  for (std::size_t level = 0; level < kNames.size(); ++level) {
    if (kNames[level] != wanted) continue;
    if (static_cast<Isa>(level) > detected_isa())
      throw std::runtime_error("XFAST_ISA is '" + std::string(wanted) + "', this processor has no more than '" +
                               std::string(isa_name(detected_isa())) + "'");
    return static_cast<Isa>(level);
  }
  throw std::runtime_error("XFAST_ISA is '" + std::string(wanted) + "'; it takes scalar, avx2, avx512 or amx");
}

}  // namespace

std::string_view isa_name(Isa isa) { return kNames[static_cast<std::size_t>(isa)]; }

Isa detected_isa() {
  static const Isa isa = detect();
  return isa;
}

Isa current_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace xfast
