#include "bindings/text_column.h"

#include <cstdint>
#include <cstring>
#include <string>

#include "bindings/parameter_error.h"

namespace nb = nanobind;

namespace xfast::bindings {

namespace {

// The Arrow C data and stream interfaces; field names and order are the specification's.
struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  std::int64_t flags;
  std::int64_t n_children;
  ArrowSchema** children;
  ArrowSchema* dictionary;
  void (*release)(ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  std::int64_t length;
  std::int64_t null_count;
  std::int64_t offset;
  std::int64_t n_buffers;
  std::int64_t n_children;
  const void** buffers;
  ArrowArray** children;
  ArrowArray* dictionary;
  void (*release)(ArrowArray*);
  void* private_data;
};

struct ArrowArrayStream {
  int (*get_schema)(ArrowArrayStream*, ArrowSchema* out);
  int (*get_next)(ArrowArrayStream*, ArrowArray* out);
  const char* (*get_last_error)(ArrowArrayStream*);
  void (*release)(ArrowArrayStream*);
  void* private_data;
};

template <class T>
T* capsule_pointer(nb::handle capsule, const char* name) {
  auto* pointer = static_cast<T*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (pointer == nullptr) throw nb::python_error();
  return pointer;
}

bool is_valid(const ArrowArray& array, std::int64_t row) {
  const auto* bitmap = static_cast<const std::uint8_t*>(array.buffers[0]);
  return bitmap == nullptr || (bitmap[row >> 3] >> (row & 7) & 1) != 0;
}

template <class Offset>
void append_offsets(const ArrowArray& array, std::vector<std::string_view>& views) {
  const auto* offsets = static_cast<const Offset*>(array.buffers[1]);
  const auto* data = static_cast<const char*>(array.buffers[2]);
  for (std::int64_t row = array.offset; row < array.offset + array.length; ++row) {
    if (!is_valid(array, row)) {
      views.emplace_back();
    } else if (offsets[row] == offsets[row + 1]) {
      views.emplace_back("", 0);
    } else {
      views.emplace_back(data + offsets[row], static_cast<std::size_t>(offsets[row + 1] - offsets[row]));
    }
  }
}

void append_views(const ArrowArray& array, std::vector<std::string_view>& views) {
  const auto* entries = static_cast<const char*>(array.buffers[1]);
  for (std::int64_t row = array.offset; row < array.offset + array.length; ++row) {
    if (!is_valid(array, row)) {
      views.emplace_back();
      continue;
    }
    const char* entry = entries + 16 * row;
    std::int32_t fields[4];
    std::memcpy(fields, entry, sizeof fields);
    const char* data = fields[0] <= 12 ? entry + 4 : static_cast<const char*>(array.buffers[2 + fields[2]]) + fields[3];
    views.emplace_back(data, static_cast<std::size_t>(fields[0]));
  }
}

void append_arrow(const ArrowSchema& schema, const ArrowArray& array, const char* argument,
                  std::vector<std::string_view>& views) {
  const std::string format = schema.dictionary != nullptr ? "dictionary" : schema.format;
  views.reserve(views.size() + static_cast<std::size_t>(array.length));
  if (format == "u") {
    append_offsets<std::int32_t>(array, views);
  } else if (format == "U") {
    append_offsets<std::int64_t>(array, views);
  } else if (format == "vu") {
    append_views(array, views);
  } else if (format == "n") {
    views.resize(views.size() + static_cast<std::size_t>(array.length));
  } else {
    raise_parameter_error(std::string(argument) + " is an Arrow array of format '" + format +
                          "', must be string, large_string or string_view");
  }
}

}  // namespace

// Chunks taken from a stream; an array from `__arrow_c_array__` is released by its capsule.
struct TextColumn::Arrow {
  ArrowSchema schema{};
  std::vector<ArrowArray> chunks;
  ~Arrow() {
    for (ArrowArray& chunk : chunks)
      if (chunk.release != nullptr) chunk.release(&chunk);
    if (schema.release != nullptr) schema.release(&schema);
  }
};

TextColumn::TextColumn(nb::handle source, const char* argument) {
  if (nb::hasattr(source, "__arrow_c_stream__")) {
    keep_ = source.attr("__arrow_c_stream__")();
    auto* stream = capsule_pointer<ArrowArrayStream>(keep_, "arrow_array_stream");
    arrow_ = new Arrow;
    int status = stream->get_schema(stream, &arrow_->schema);
    while (status == 0) {
      ArrowArray chunk{};
      status = stream->get_next(stream, &chunk);
      if (status != 0 || chunk.release == nullptr) break;
      arrow_->chunks.push_back(chunk);
    }
    std::string failure;
    if (status != 0) {
      const char* reason = stream->get_last_error(stream);
      failure =
          std::string(argument) + " is an Arrow stream that failed: " + (reason != nullptr ? reason : "no reason");
    }
    try {
      if (!failure.empty()) raise_parameter_error(failure);
      for (const ArrowArray& chunk : arrow_->chunks) append_arrow(arrow_->schema, chunk, argument, views_);
    } catch (...) {
      delete arrow_;
      throw;
    }
  } else if (nb::hasattr(source, "__arrow_c_array__")) {
    keep_ = source.attr("__arrow_c_array__")();
    const nb::object schema = keep_[0];
    const nb::object array = keep_[1];
    append_arrow(*capsule_pointer<ArrowSchema>(schema, "arrow_schema"),
                 *capsule_pointer<ArrowArray>(array, "arrow_array"), argument, views_);
  } else {
    read_sequence(source, argument);
  }
}

TextColumn::~TextColumn() { delete arrow_; }

void TextColumn::read_sequence(nb::handle source, const char* argument) {
  if (PyUnicode_Check(source.ptr()) || PyBytes_Check(source.ptr()))
    raise_parameter_error(std::string(argument) + " is a single text, must be a sequence of them");
  // A tuple of its own keeps every string alive while the GIL is away.
  keep_ = nb::steal(PySequence_Tuple(source.ptr()));
  if (!keep_.is_valid()) {
    PyErr_Clear();
    raise_parameter_error(std::string(argument) + " is a " + nb::type_name(source.type()).c_str() +
                          ", must be a sequence of str or an Arrow string array");
  }
  const Py_ssize_t count = PyTuple_Size(keep_.ptr());
  views_.reserve(static_cast<std::size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = PyTuple_GetItem(keep_.ptr(), i);
    if (item == Py_None) {
      views_.emplace_back();
      continue;
    }
    if (!PyUnicode_Check(item)) {
      raise_parameter_error(std::string(argument) + "[" + std::to_string(i) + "] is a " +
                            nb::type_name(nb::handle(item).type()).c_str() + ", must be str or None");
    }
    Py_ssize_t length = 0;
    const char* data = PyUnicode_AsUTF8AndSize(item, &length);
    if (data == nullptr) {  // a lone surrogate
      PyErr_Clear();
      encoded_.push_back(nb::steal(PyUnicode_AsEncodedString(item, "utf-8", "replace")));
      if (!encoded_.back().is_valid()) throw nb::python_error();
      char* bytes = nullptr;
      if (PyBytes_AsStringAndSize(encoded_.back().ptr(), &bytes, &length) != 0) throw nb::python_error();
      data = bytes;
    }
    views_.emplace_back(data, static_cast<std::size_t>(length));
  }
}

}  // namespace xfast::bindings
