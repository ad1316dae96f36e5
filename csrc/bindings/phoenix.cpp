#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/cpu.h"
#include "phoenix/hashing.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Ids = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<nb::numpy, std::int32_t, nb::ndim<2>>;

Rows hash_ids(Ids ids, const std::vector<std::int64_t>& scales, const std::vector<std::int64_t>& biases,
              std::int64_t modulus, std::int64_t vocab) {
  if (scales.size() != biases.size()) throw std::invalid_argument("scales and biases differ in length");
  if (modulus < 1) throw std::invalid_argument("modulus is " + std::to_string(modulus) + ", must be at least 1");
  if (vocab < 2) throw std::invalid_argument("vocab is " + std::to_string(vocab) + ", must be at least 2");
  std::vector<xfast::phoenix::HashFunction> functions;
  for (std::size_t j = 0; j < scales.size(); ++j) functions.push_back({scales[j], biases[j], modulus, vocab});
  const std::size_t count = ids.shape(0);
  auto out = std::make_unique<std::int32_t[]>(count * functions.size() + 1);
  {
    nb::gil_scoped_release release;
    xfast::phoenix::hash_ids(ids.data(), count, functions.data(), functions.size(), out.get());
  }
  std::int32_t* data = out.release();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::int32_t*>(p); });
  return Rows(data, {count, functions.size()}, owner);
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("isa", [] { return std::string(xfast::isa_name(xfast::current_isa())); });
  m.def("detected_isa", [] { return std::string(xfast::isa_name(xfast::detected_isa())); });
  m.def("hash_ids", &hash_ids, "ids"_a, "scales"_a, "biases"_a, "modulus"_a, "vocab"_a);
}
