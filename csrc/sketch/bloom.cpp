#include "sketch/bloom.h"

#include "sketch/mix.h"

namespace xfast::sketch {

namespace {

// The k bits of an id, one after another: a point on the circle of 2^64 steps on by an odd stride.
class Bits {
 public:
  Bits(std::uint64_t id, std::size_t words)
      : point_(mix64(id + 0x9E3779B97F4A7C15ull)), stride_(mix64(point_) | 1), bits_(64 * std::uint64_t{words}) {}

  std::uint64_t next() {
    const auto at = static_cast<std::uint64_t>(static_cast<unsigned __int128>(point_) * bits_ >> 64);
    point_ += stride_;
    return at;
  }

 private:
  std::uint64_t point_;
  std::uint64_t stride_;
  std::uint64_t bits_;
};

}  // namespace

void bloom_add(const std::uint64_t* ids, std::size_t count, unsigned hashes, std::uint64_t* words, std::size_t size) {
  for (std::size_t i = 0; i < count; ++i) {
    Bits bits(ids[i], size);
    for (unsigned k = 0; k < hashes; ++k) {
      const std::uint64_t at = bits.next();
      words[at >> 6] |= std::uint64_t{1} << (at & 63);
    }
  }
}

void bloom_contains(const std::uint64_t* ids, std::size_t count, unsigned hashes, const std::uint64_t* words,
                    std::size_t size, bool* found) {
  if (size == 0) return;
  const auto test = [words](std::uint64_t at) { return words[at >> 6] >> (at & 63) & 1; };
  // In a filter at its size cap half of the bits are set, so a branch per bit is a coin toss. The first four bits are
  // taken without one; fifteen strangers of sixteen are known then.
  const unsigned straight = hashes < 4 ? hashes : 4;
  for (std::size_t i = 0; i < count; ++i) {
    Bits bits(ids[i], size);
    std::uint64_t all = 1;
    for (unsigned k = 0; k < straight; ++k) all &= test(bits.next());
    for (unsigned k = straight; k < hashes && all != 0; ++k) all &= test(bits.next());
    found[i] = found[i] || all != 0;
  }
}

}  // namespace xfast::sketch
