// Ids to embedding rows (spec PHOENIX §1).
#pragma once

#include <cstddef>
#include <cstdint>

namespace xfast::phoenix {

// One hash function of a family: row = 0 for id 0, else floormod(wrap64(id * scale + bias), modulus) mod (vocab-1) + 1.
struct HashFunction {
  std::int64_t scale;
  std::int64_t bias;
  std::int64_t modulus;  // >= 1
  std::int64_t vocab;    // rows of the table, >= 2
};

// out[i * num_functions + j] = functions[j](ids[i]); rows are in [0, vocab).
void hash_ids(const std::int64_t* ids, std::size_t count, const HashFunction* functions, std::size_t num_functions,
              std::int32_t* out);

}  // namespace xfast::phoenix
