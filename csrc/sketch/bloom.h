// A Bloom filter over words of 64 bits (HOME_MIXER §7.7): bit i of k is the point that double hashing of a 64-bit mix
// reaches, scaled to the bit count.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xfast::sketch {

void bloom_add(const std::uint64_t* ids, std::size_t count, unsigned hashes, std::uint64_t* words, std::size_t size);

// Or-s into `found` (one byte per id), so that several filters can be asked one after another.
void bloom_contains(const std::uint64_t* ids, std::size_t count, unsigned hashes, const std::uint64_t* words,
                    std::size_t size, bool* found);

}  // namespace xfast::sketch
