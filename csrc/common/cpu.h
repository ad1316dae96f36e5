// Run-time choice of the instruction set.
#pragma once

#include <string_view>

namespace xfast {

// Ordered: a processor that has one level has the levels before it.
enum class Isa { scalar = 0, avx2 = 1, avx512 = 2, amx = 3 };

std::string_view isa_name(Isa isa);

// The best level this processor and operating system can run.
Isa detected_isa();

// detected_isa(), lowered to the level that the environment variable XFAST_ISA names (read once per process).
// Throws std::runtime_error if XFAST_ISA names an unknown level or one this processor lacks.
Isa current_isa();

}  // namespace xfast
