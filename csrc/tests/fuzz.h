// A small coverage-guided fuzzer for compilers without libFuzzer: `fuzz_target CORPUS SECONDS [SEED]`.
//
// The code under test is compiled with -fsanitize-coverage=trace-pc; an input that reaches a new edge joins the corpus
// (and is written to the folder). Crashes are the sanitizers' business: the input at hand is in CORPUS/../crash when
// they abort. With clang, link the same target with -fsanitize=fuzzer instead and leave XFAST_FUZZ_MAIN out.
#pragma once

#include <cstddef>
#include <cstdint>

// Must not crash, hang or read outside the input. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
