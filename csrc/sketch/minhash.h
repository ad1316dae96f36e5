// MinHash of id sets, for the mutual-follow Jaccard (HOME_MIXER §6).
//
// Built by "fast similarity sketching" (Dahlgaard, Knudsen, Thorup 2017): instead of one hash per id and position,
// round after round throws every id into one of the K bins until none is empty, so a list of n ids costs about n + K ln
// K hashes, not n * K. Equal positions estimate Jaccard without bias and with the concentration of K independent
// hashes. A bin keeps (round, hash) of its least throw; the union of two sets is the minimum bin by bin, so adding an
// id later gives bit for bit the sketch of the larger set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xfast::sketch {

constexpr std::uint64_t kEmptyBin = ~std::uint64_t{0};
constexpr std::uint32_t kEmptyPosition = ~std::uint32_t{0};
constexpr std::size_t kMaxPositions = 256;  // rounds are numbered in 9 bits and there are at most 2 K

// Add ids to a sketch of `positions` bins; a new sketch is filled with kEmptyBin.
void minhash_add(const std::uint64_t* ids, std::size_t count, std::uint64_t seed, std::uint64_t* bins,
                 std::size_t positions);

// The 32-bit signature that is compared: kEmptyPosition everywhere for the empty set, never otherwise.
void minhash_signature(const std::uint64_t* bins, std::size_t positions, std::uint32_t* signature);

// counts[row] = number of k with column[row * positions + k] == one[k].
void equal_positions(const std::uint32_t* one, const std::uint32_t* column, std::size_t rows, std::size_t positions,
                     std::uint32_t* counts);

}  // namespace xfast::sketch
