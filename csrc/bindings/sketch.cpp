#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>

#include "sketch/bloom.h"
#include "sketch/minhash.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Ids = nb::ndarray<const std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Offsets = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Words = nb::ndarray<std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Signature = nb::ndarray<const std::uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Signatures = nb::ndarray<const std::uint32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class T, class Shape>
auto owned(std::unique_ptr<T[]> values, std::initializer_list<std::size_t> shape) {
  T* data = values.release();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::ndarray<nb::numpy, T, Shape>(data, shape, owner);
}

auto minhash_bins(Ids ids, std::size_t positions, std::uint64_t seed) {
  auto out = std::make_unique<std::uint64_t[]>(positions);
  std::fill_n(out.get(), positions, xfast::sketch::kEmptyBin);
  {
    nb::gil_scoped_release release;
    xfast::sketch::minhash_add(ids.data(), ids.shape(0), seed, out.get(), positions);
  }
  return owned<std::uint64_t, nb::ndim<1>>(std::move(out), {positions});
}

void minhash_add(Words bins, Ids ids, std::uint64_t seed) {
  nb::gil_scoped_release release;
  xfast::sketch::minhash_add(ids.data(), ids.shape(0), seed, bins.data(), bins.shape(0));
}

auto minhash_signature(Ids bins) {
  auto out = std::make_unique<std::uint32_t[]>(bins.shape(0) + 1);
  xfast::sketch::minhash_signature(bins.data(), bins.shape(0), out.get());
  return owned<std::uint32_t, nb::ndim<1>>(std::move(out), {bins.shape(0)});
}

auto minhash_signatures(Ids ids, Offsets offsets, std::size_t positions, std::uint64_t seed) {
  const std::size_t rows = offsets.shape(0) == 0 ? 0 : offsets.shape(0) - 1;
  auto out = std::make_unique<std::uint32_t[]>(rows * positions + 1);
  {
    nb::gil_scoped_release release;
    std::uint64_t bins[xfast::sketch::kMaxPositions];
    for (std::size_t row = 0; row < rows; ++row) {
      const auto begin = static_cast<std::size_t>(offsets.data()[row]);
      const auto end = static_cast<std::size_t>(offsets.data()[row + 1]);
      std::fill_n(bins, positions, xfast::sketch::kEmptyBin);
      xfast::sketch::minhash_add(ids.data() + begin, end - begin, seed, bins, positions);
      xfast::sketch::minhash_signature(bins, positions, out.get() + row * positions);
    }
  }
  return owned<std::uint32_t, nb::ndim<2>>(std::move(out), {rows, positions});
}

auto equal_positions(Signature one, Signatures column) {
  const std::size_t rows = column.shape(0);
  auto out = std::make_unique<std::uint32_t[]>(rows + 1);
  {
    nb::gil_scoped_release release;
    xfast::sketch::equal_positions(one.data(), column.data(), rows, column.shape(1), out.get());
  }
  return owned<std::uint32_t, nb::ndim<1>>(std::move(out), {rows});
}

void bloom_add(Words words, Ids ids, unsigned hashes) {
  nb::gil_scoped_release release;
  xfast::sketch::bloom_add(ids.data(), ids.shape(0), hashes, words.data(), words.shape(0));
}

void bloom_contains(Ids words, Ids ids, unsigned hashes,
                    nb::ndarray<bool, nb::ndim<1>, nb::c_contig, nb::device::cpu> found) {
  nb::gil_scoped_release release;
  xfast::sketch::bloom_contains(ids.data(), ids.shape(0), hashes, words.data(), words.shape(0), found.data());
}

}  // namespace

NB_MODULE(_native, m) {
  m.attr("MAX_POSITIONS") = xfast::sketch::kMaxPositions;
  m.attr("EMPTY_BIN") = xfast::sketch::kEmptyBin;
  m.attr("EMPTY_POSITION") = xfast::sketch::kEmptyPosition;
  m.def("minhash_bins", &minhash_bins, "ids"_a, "positions"_a, "seed"_a);
  m.def("minhash_add", &minhash_add, "bins"_a, "ids"_a, "seed"_a);
  m.def("minhash_signature", &minhash_signature, "bins"_a);
  m.def("minhash_signatures", &minhash_signatures, "ids"_a, "offsets"_a, "positions"_a, "seed"_a);
  m.def("equal_positions", &equal_positions, "one"_a, "column"_a);
  m.def("bloom_add", &bloom_add, "words"_a, "ids"_a, "hashes"_a);
  m.def("bloom_contains", &bloom_contains, "words"_a, "ids"_a, "hashes"_a, "found"_a);
}
