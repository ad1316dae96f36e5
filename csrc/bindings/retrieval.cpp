#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "retrieval/index.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace xfast::retrieval;

namespace {

template <class T, int N>
using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using Out = nb::ndarray<nb::numpy, T, nb::ndim<N>>;

template <class T>
Out<T, 2> matrix(std::unique_ptr<T[]> data, std::size_t rows, std::size_t columns) {
  T* p = data.release();
  return Out<T, 2>(p, {rows, columns}, nb::capsule(p, [](void* q) noexcept { delete[] static_cast<T*>(q); }));
}

xfast::Isa isa_of(const std::string& name) {
  for (int level = 0; level <= static_cast<int>(xfast::Isa::amx); ++level)
    if (name == xfast::isa_name(static_cast<xfast::Isa>(level))) return static_cast<xfast::Isa>(level);
  throw std::invalid_argument("isa is '" + name + "', must be scalar, avx2, avx512 or amx");
}

// Keeps a Python object alive for C++ threads; the last reference may go on a thread that does not hold the GIL.
std::shared_ptr<const void> hold(nb::object object) {
  PyObject* kept = object.release().ptr();
  return {kept, [](const void* p) {
            nb::gil_scoped_acquire acquire;
            Py_DECREF(static_cast<PyObject*>(const_cast<void*>(p)));
          }};
}

// The raw bytes of `rows` [count, dim], read as `type`; they may be unaligned. The array is kept, not copied.
void append(Index& index, nb::object owner, In<std::uint8_t, 2> rows, const std::string& type) {
  Rows added;
  if (type == "float32")
    added.type = RowType::float32;
  else if (type == "float16")
    added.type = RowType::float16;
  else if (type == "bfloat16")
    added.type = RowType::bfloat16;
  else
    throw std::invalid_argument("type is '" + type + "', must be float32, float16 or bfloat16");
  if (rows.shape(1) != index.dim() * (type == "float32" ? 4 : 2))
    throw std::invalid_argument("rows have " + std::to_string(rows.shape(1)) + " bytes, which is not the index's dim");
  added.data = rows.data();
  added.count = rows.shape(0);
  added.owner = hold(std::move(owner));
  nb::gil_scoped_release release;
  index.append(added);
}

std::tuple<Out<std::int64_t, 2>, Out<float, 2>, std::vector<std::size_t>> search(const Index& index,
                                                                                 In<float, 2> queries, std::size_t k,
                                                                                 In<std::int64_t, 1> excluded,
                                                                                 std::optional<In<bool, 1>> allowed,
                                                                                 std::size_t threads) {
  if (queries.shape(1) != index.dim())
    throw std::invalid_argument("queries have " + std::to_string(queries.shape(1)) + " columns, the index has " +
                                std::to_string(index.dim()));
  if (allowed && allowed->shape(0) < index.size()) throw std::invalid_argument("allowed is shorter than the index");
  if (threads == 0) throw std::invalid_argument("threads is 0, must be at least 1");
  const std::size_t count = queries.shape(0);
  std::vector<Query> asked(count);
  for (std::size_t q = 0; q < count; ++q)
    asked[q] = {queries.data() + q * index.dim(), excluded.data(), excluded.shape(0),
                allowed ? reinterpret_cast<const std::uint8_t*>(allowed->data()) : nullptr};
  std::vector<std::vector<Hit>> found;
  {
    nb::gil_scoped_release release;
    found = index.search(asked, k, threads);
  }
  std::size_t width = 0;
  for (const auto& hits : found) width = std::max(width, hits.size());
  auto rows = std::make_unique<std::int64_t[]>(count * width + 1);
  auto scores = std::make_unique<float[]>(count * width + 1);
  std::vector<std::size_t> sizes;
  for (std::size_t q = 0; q < count; ++q) {
    sizes.push_back(found[q].size());
    for (std::size_t i = 0; i < found[q].size(); ++i) {
      rows[q * width + i] = found[q][i].row;
      scores[q * width + i] = found[q][i].score;
    }
  }
  return {matrix(std::move(rows), count, width), matrix(std::move(scores), count, width), sizes};
}

}  // namespace

NB_MODULE(_scan, m) {
  nb::class_<Index>(m, "Index")
      .def(
          "__init__",
          [](Index* self, std::size_t dim, const std::string& isa) {
            if (dim == 0) throw std::invalid_argument("dim is 0, must be at least 1");
            new (self) Index(dim, isa_of(isa));
          },
          "dim"_a, "isa"_a)
      .def("append", &append, "owner"_a, "rows"_a, "type"_a)
      .def(
          "remove",
          [](Index& index, In<std::int64_t, 1> rows) {
            nb::gil_scoped_release release;
            index.remove(rows.data(), rows.shape(0));
          },
          "rows"_a)
      .def("compact",
           [](Index& index) {
             std::vector<std::int64_t> kept;
             {
               nb::gil_scoped_release release;
               kept = index.compact();
             }
             auto* data = new std::int64_t[kept.size() + 1];
             std::copy(kept.begin(), kept.end(), data);
             nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::int64_t*>(p); });
             return Out<std::int64_t, 1>(data, {kept.size()}, owner);
           })
      .def("search", &search, "queries"_a, "k"_a, "excluded"_a, "allowed"_a.none(), "threads"_a)
      .def_prop_ro("size", &Index::size)
      .def_prop_ro("removed", &Index::removed)
      .def_prop_ro("nbytes", &Index::bytes);
}
