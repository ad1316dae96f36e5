// Run-time choice of the instruction set.
#pragma once

#include <string_view>

namespace xfast {

// Ordered: a processor that has one level has the levels before it.
#if defined(__aarch64__)
enum class Isa { scalar = 0, dotprod = 1 };  // scalar is NEON there, which every arm64 processor has
#else
enum class Isa { scalar = 0, avx2 = 1, avx512 = 2, amx = 3 };
#endif

std::string_view isa_name(Isa isa);

// The inverse; std::invalid_argument for a name that is no level of this processor family.
Isa isa_named(std::string_view name);

// The best level this processor and operating system can run.
Isa detected_isa();

// detected_isa(), lowered to the level that the environment variable XFAST_ISA names (read once per process).
// Throws std::runtime_error if XFAST_ISA names an unknown level or one this processor lacks.
Isa current_isa();

}  // namespace xfast
