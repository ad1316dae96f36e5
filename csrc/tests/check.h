// A check that names the expression, the place and both values; a test program returns check::failures().
#pragma once

#include <iostream>

namespace check {

inline int& failures() {
  static int count = 0;
  return count;
}

template <class A, class B>
void equal(const A& got, const B& expected, const char* what, const char* file, int line) {
  if (got == expected) return;
  ++failures();
  std::cerr << file << ':' << line << ": " << what << " is " << got << ", expected " << expected << '\n';
}

}  // namespace check

#define CHECK_EQ(got, expected) ::check::equal((got), (expected), #got, __FILE__, __LINE__)
#define CHECK(condition) ::check::equal(static_cast<bool>(condition), true, #condition, __FILE__, __LINE__)
