#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/text_column.h"
#include "text/keyword_matcher.h"
#include "text/segment.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using xfast::bindings::TextColumn;
using xfast::text::KeywordMatcher;

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> array_of(std::unique_ptr<T[]> values, std::size_t size) {
  T* data = values.release();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(data, {size}, owner);
}

// Code points before each of the ascending byte offsets.
class CodePoints {
 public:
  explicit CodePoints(std::string_view text) : text_(text) {}
  std::size_t until(std::size_t byte) {
    if (byte < at_) at_ = count_ = 0;
    for (; at_ < byte; ++at_) count_ += (static_cast<std::uint8_t>(text_[at_]) & 0xC0) != 0x80;
    return count_;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t count_ = 0;
};

std::vector<std::string> tokenize(nb::str text) {
  const nb::tuple one = nb::make_tuple(text);
  const TextColumn column(one, "text");
  nb::gil_scoped_release release;
  return xfast::text::tokens(column.views()[0]);
}

std::vector<std::size_t> word_boundaries(nb::str text) {
  const nb::tuple one = nb::make_tuple(text);
  const TextColumn column(one, "text");
  const std::string_view view = column.views()[0];
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(view.data());
  std::vector<std::size_t> out;
  CodePoints points(view);
  for (std::size_t at = 0; at < view.size();) {
    at = xfast::text::next_segment(bytes, view.size(), at).end;
    out.push_back(points.until(at));
  }
  return out;
}

void build(KeywordMatcher* self, nb::handle keywords) {
  const TextColumn column(keywords, "keywords");
  nb::gil_scoped_release release;
  new (self) KeywordMatcher(column.views());
}

auto match(const KeywordMatcher& self, nb::handle texts) {
  const TextColumn column(texts, "texts");
  auto out = std::make_unique<bool[]>(column.size() + 1);
  {
    nb::gil_scoped_release release;
    KeywordMatcher::Scratch scratch;
    std::size_t row = 0;
    for (const std::string_view text : column) out[row++] = self.matches(text, scratch);
  }
  return array_of(std::move(out), column.size());
}

auto first(const KeywordMatcher& self, nb::handle texts) {
  const TextColumn column(texts, "texts");
  auto out = std::make_unique<std::int32_t[]>(column.size() + 1);
  {
    nb::gil_scoped_release release;
    KeywordMatcher::Scratch scratch;
    std::size_t row = 0;
    for (const std::string_view text : column) out[row++] = self.first(text, scratch);
  }
  return array_of(std::move(out), column.size());
}

std::vector<std::tuple<std::uint32_t, std::size_t, std::size_t>> find(const KeywordMatcher& self, nb::str text) {
  const nb::tuple one = nb::make_tuple(text);
  const TextColumn column(one, "text");
  std::vector<std::tuple<std::uint32_t, std::size_t, std::size_t>> out;
  CodePoints begins(column.views()[0]);
  CodePoints ends(column.views()[0]);
  for (const auto& found : self.find(column.views()[0]))
    out.emplace_back(found.keyword, begins.until(found.begin), ends.until(found.end));
  return out;
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("tokenize", &tokenize, "text"_a);
  m.def("word_boundaries", &word_boundaries, "text"_a);
  nb::class_<KeywordMatcher>(m, "KeywordMatcher")
      .def("__init__", &build, "keywords"_a)
      .def("match", &match, "texts"_a)
      .def("first", &first, "texts"_a)
      .def("find", &find, "text"_a)
      .def("__len__", &KeywordMatcher::size)
      .def_prop_ro("live", &KeywordMatcher::live);
}
