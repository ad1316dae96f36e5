#include "common/cpu.h"

#include <algorithm>
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
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace xfast {
namespace {

#if defined(__aarch64__)
constexpr std::array<std::string_view, 2> kNames = {"scalar", "dotprod"};
constexpr const char* kLevels = "scalar or dotprod";
#else
constexpr std::array<std::string_view, 4> kNames = {"scalar", "avx2", "avx512", "amx"};
constexpr const char* kLevels = "scalar, avx2, avx512 or amx";
#endif

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
#elif defined(__aarch64__) && defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 ? Isa::dotprod : Isa::scalar;
#elif defined(__aarch64__) && defined(__APPLE__)
  return Isa::dotprod;  // every processor of that family has it
#else
  return Isa::scalar;
#endif
}

Isa choose() {
  const char* wanted = std::getenv("XFAST_ISA");
  if (wanted == nullptr || *wanted == '\0') return detected_isa();
  const auto it = std::find(kNames.begin(), kNames.end(), wanted);
  if (it == kNames.end()) throw std::runtime_error("XFAST_ISA is '" + std::string(wanted) + "'; it takes " + kLevels);
  const auto isa = static_cast<Isa>(it - kNames.begin());
  if (isa > detected_isa())
    throw std::runtime_error("XFAST_ISA is '" + std::string(wanted) + "', this processor has no more than '" +
                             std::string(isa_name(detected_isa())) + "'");
  return isa;
}

}  // namespace

std::string_view isa_name(Isa isa) { return kNames[static_cast<std::size_t>(isa)]; }

Isa isa_named(std::string_view name) {
  const auto it = std::find(kNames.begin(), kNames.end(), name);
  if (it == kNames.end()) throw std::invalid_argument("isa is '" + std::string(name) + "', must be " + kLevels);
  return static_cast<Isa>(it - kNames.begin());
}

Isa detected_isa() {
  static const Isa isa = detect();
  return isa;
}

Isa current_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace xfast
