#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
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
using Ids = In<std::uint64_t, 1>;

template <class T>
std::vector<T> copy_of(const In<T, 1>& array) {
  return {array.data(), array.data() + array.shape(0)};
}

template <class T, int N>
Out<T, N> array_of(std::vector<T> values, const std::vector<std::size_t>& shape) {
  auto* kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return Out<T, N>(kept->data(), shape.size(), shape.data(), owner);
}

// Keeps a Python object alive for C++ threads; the last reference may go on a thread that does not hold the GIL.
std::shared_ptr<const void> hold(nb::object object) {
  PyObject* kept = object.release().ptr();
  return {kept, [](const void* p) {
            nb::gil_scoped_acquire acquire;
            Py_DECREF(static_cast<PyObject*>(const_cast<void*>(p)));
          }};
}

struct Stored {
  RowType type;
  std::size_t width;
};

Stored stored(const std::string& type) {
  if (type == "float32") return {RowType::float32, 4};
  if (type == "float16") return {RowType::float16, 2};
  if (type == "bfloat16") return {RowType::bfloat16, 2};
  if (type == "int8") return {RowType::int8, 1};
  throw std::invalid_argument("type is '" + type + "', must be float32, float16, bfloat16 or int8");
}

// `vectors` are the raw bytes of [count, dim] numbers of `type`; they may be unaligned. `owner` keeps them and `scale`.
void append(Index& index, nb::object owner, In<std::uint8_t, 2> vectors, const std::string& type,
            std::optional<In<float, 1>> scale, Ids post_ids, Ids author_ids, In<std::int64_t, 2> topics) {
  const Stored form = stored(type);
  const std::size_t count = vectors.shape(0);
  if (vectors.shape(1) != index.dim() * form.width)
    throw std::invalid_argument("rows have " + std::to_string(vectors.shape(1)) +
                                " bytes, which is not the index's dim");
  if ((form.type == RowType::int8) != scale.has_value() || (scale && scale->shape(0) != count))
    throw std::invalid_argument("scale must have one number per row of type int8, and be None for others");
  if (post_ids.shape(0) != count || author_ids.shape(0) != count || topics.shape(0) != count)
    throw std::invalid_argument("ids and topics must have as many rows as the vectors");
  Posts posts;
  posts.vectors = {vectors.data(), count, form.type, scale ? scale->data() : nullptr, hold(std::move(owner))};
  posts.post_ids = copy_of(post_ids);
  posts.author_ids = copy_of(author_ids);
  posts.topics_per_row = topics.shape(1);
  posts.topics.assign(topics.data(), topics.data() + count * topics.shape(1));
  nb::gil_scoped_release release;
  index.append(std::move(posts));
}

Filter filter_of(const Ids& excluded, const std::optional<In<std::int64_t, 1>>& topics) {
  Filter filter;
  filter.excluded = copy_of(excluded);
  filter.by_topic = topics.has_value();
  if (topics) filter.topics = copy_of(*topics);
  return filter;
}

using Table = std::tuple<Out<std::int64_t, 2>, Out<float, 2>, Out<std::uint64_t, 2>, Out<std::uint64_t, 2>>;

// Every query has as many hits: the conditions are the same for all of them.
Table table(const std::vector<std::vector<Hit>>& found) {
  const std::size_t count = found.size(), width = found.empty() ? 0 : found.front().size();
  std::vector<std::int64_t> rows;
  std::vector<float> scores;
  std::vector<std::uint64_t> posts, authors;
  for (const auto& hits : found)
    for (const Hit& hit : hits) {
      rows.push_back(hit.row);
      scores.push_back(hit.score);
      posts.push_back(hit.post_id);
      authors.push_back(hit.author_id);
    }
  const std::vector<std::size_t> shape{count, width};
  return {array_of<std::int64_t, 2>(std::move(rows), shape), array_of<float, 2>(std::move(scores), shape),
          array_of<std::uint64_t, 2>(std::move(posts), shape), array_of<std::uint64_t, 2>(std::move(authors), shape)};
}

void check_width(const Index& index, std::size_t columns) {
  if (columns != index.dim())
    throw std::invalid_argument("queries have " + std::to_string(columns) + " columns, the index has " +
                                std::to_string(index.dim()));
}

Table search(const Index& index, In<float, 2> queries, std::size_t k, Ids excluded,
             std::optional<In<std::int64_t, 1>> topics, std::size_t threads, std::size_t first_row) {
  check_width(index, queries.shape(1));
  if (threads == 0) throw std::invalid_argument("threads is 0, must be at least 1");
  const Filter filter = filter_of(excluded, topics);
  std::vector<std::vector<Hit>> found;
  {
    nb::gil_scoped_release release;
    found = index.search(queries.data(), queries.shape(0), k, filter, threads, first_row);
  }
  return table(found);
}

Table rank(const Index& index, In<float, 1> query, In<std::int64_t, 1> rows, std::size_t k, Ids excluded,
           std::optional<In<std::int64_t, 1>> topics) {
  check_width(index, query.shape(0));
  const Filter filter = filter_of(excluded, topics);
  std::vector<std::vector<Hit>> found(1);
  {
    nb::gil_scoped_release release;
    found[0] = index.rank(query.data(), rows.data(), rows.shape(0), k, filter);
  }
  return table(found);
}

auto contents(const Index& index, bool vectors) {
  Contents all;
  {
    nb::gil_scoped_release release;
    all = index.contents(vectors);
  }
  const std::size_t count = all.post_ids.size();
  return std::make_tuple(array_of<float, 2>(std::move(all.vectors), {vectors ? count : 0, index.dim()}),
                         array_of<std::uint64_t, 1>(std::move(all.post_ids), {count}),
                         array_of<std::uint64_t, 1>(std::move(all.author_ids), {count}),
                         array_of<std::int64_t, 2>(std::move(all.topics), {count, all.topics_per_row}));
}

}  // namespace

NB_MODULE(_scan, m) {
  nb::class_<Index>(m, "Index")
      .def(
          "__init__",
          [](Index* self, std::size_t dim, const std::string& isa, std::size_t threads) {
            new (self) Index(dim, xfast::isa_named(isa), threads);
          },
          "dim"_a, "isa"_a, "threads"_a)
      .def("append", &append, "owner"_a, "vectors"_a, "type"_a, "scale"_a.none(), "post_ids"_a, "author_ids"_a,
           "topics"_a)
      .def(
          "remove",
          [](Index& index, Ids post_ids, Ids author_ids) {
            auto posts = copy_of(post_ids), authors = copy_of(author_ids);
            nb::gil_scoped_release release;
            return index.remove(std::move(posts), std::move(authors));
          },
          "post_ids"_a, "author_ids"_a)
      .def("compact",
           [](Index& index) {
             nb::gil_scoped_release release;
             return index.compact();
           })
      .def("search", &search, "queries"_a, "k"_a, "excluded"_a, "topics"_a.none(), "threads"_a, "first_row"_a = 0)
      .def("rank", &rank, "query"_a, "rows"_a, "k"_a, "excluded"_a, "topics"_a.none())
      .def("contents", &contents, "vectors"_a)
      .def_prop_ro("size", &Index::size)
      .def_prop_ro("removed", &Index::removed)
      .def_prop_ro("segments", &Index::segments)
      .def_prop_ro("nbytes", &Index::bytes);
}
