#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "eventlog/frames.h"
#include "eventlog/in_network.h"
#include "eventlog/service_messages.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace xfast;
using namespace xfast::eventlog;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

// A buffer or a list of bytes as slices. It owns references to what it points into, so that the GIL may go.
class Messages {
 public:
  Messages(nb::handle source, const std::optional<In<std::int64_t>>& starts,
           const std::optional<In<std::int64_t>>& sizes) {
    if (starts.has_value() != sizes.has_value()) throw std::invalid_argument("starts and sizes go together");
    if (starts.has_value())
      from_buffer(source, *starts, *sizes);
    else
      from_sequence(source);
  }
  ~Messages() {
    if (has_view_) PyBuffer_Release(&view_);
  }
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  std::span<const wire::Slice> slices() const { return slices_; }

 private:
  void from_buffer(nb::handle source, const In<std::int64_t>& starts, const In<std::int64_t>& sizes) {
    if (PyObject_GetBuffer(source.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
    has_view_ = true;
    if (starts.shape(0) != sizes.shape(0)) throw std::invalid_argument("starts and sizes differ in length");
    slices_.reserve(starts.shape(0));
    for (std::size_t i = 0; i < starts.shape(0); ++i) {
      const std::int64_t start = starts.data()[i], size = sizes.data()[i];
      if (start < 0 || size < 0 || start > view_.len || size > view_.len - start)
        throw std::invalid_argument("message " + std::to_string(i) + " lies outside the buffer of " +
                                    std::to_string(view_.len) + " bytes");
      slices_.push_back({static_cast<const std::uint8_t*>(view_.buf) + start, static_cast<std::size_t>(size)});
    }
  }

  void from_sequence(nb::handle source) {
    items_ = nb::steal<nb::object>(PySequence_Tuple(source.ptr()));
    if (!items_.is_valid()) throw nb::python_error();
    const Py_ssize_t count = PyTuple_Size(items_.ptr());
    slices_.reserve(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
      PyObject* item = PyTuple_GetItem(items_.ptr(), i);
      if (item == Py_None) {
        slices_.push_back({nullptr, 0});
        continue;
      }
      char* data = nullptr;
      Py_ssize_t size = 0;
      if (PyBytes_AsStringAndSize(item, &data, &size) != 0) throw nb::python_error();
      slices_.push_back({reinterpret_cast<const std::uint8_t*>(data), static_cast<std::size_t>(size)});
    }
  }

  nb::object items_;
  Py_buffer view_{};
  bool has_view_ = false;
  std::vector<wire::Slice> slices_;
};

template <class T, class V>
Out<T> move_out(std::vector<V>&& values) {
  static_assert(sizeof(T) == sizeof(V));
  auto* kept = new std::vector<V>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<V>*>(p); });
  return Out<T>(kept->data(), {kept->size()}, owner);
}

template <class T, class V>
Out<T> view(const std::vector<V>& values, nb::handle owner) {
  static_assert(sizeof(T) == sizeof(V));
  return Out<T>(const_cast<V*>(values.data()), {values.size()}, owner);
}

template <class Columns>
nb::dict post_columns(const Columns& c, nb::handle owner) {
  nb::dict out;
  out["post_id"] = view<std::int64_t>(c.post_id, owner);
  out["author_id"] = view<std::int64_t>(c.author_id, owner);
  out["created_at"] = view<std::int64_t>(c.created_at, owner);
  out["in_reply_to_post_id"] = view<std::int64_t>(c.in_reply_to_post_id, owner);
  out["in_reply_to_user_id"] = view<std::int64_t>(c.in_reply_to_user_id, owner);
  out["is_retweet"] = view<bool>(c.is_retweet, owner);
  out["is_reply"] = view<bool>(c.is_reply, owner);
  out["source_post_id"] = view<std::int64_t>(c.source_post_id, owner);
  out["source_user_id"] = view<std::int64_t>(c.source_user_id, owner);
  out["has_video"] = view<bool>(c.has_video, owner);
  out["conversation_id"] = view<std::int64_t>(c.conversation_id, owner);
  return out;
}

nb::bytes to_bytes(const std::vector<std::uint8_t>& data) { return nb::bytes(data.data(), data.size()); }

std::unique_ptr<InNetworkColumns> py_decode_in_network(nb::handle source, std::optional<In<std::int64_t>> starts,
                                                       std::optional<In<std::int64_t>> sizes) {
  const Messages messages(source, starts, sizes);
  auto out = std::make_unique<InNetworkColumns>();
  nb::gil_scoped_release release;
  decode_in_network(messages.slices(), *out);
  return out;
}

std::unique_ptr<InNetworkColumns> py_decode_network(nb::handle source, std::optional<In<std::int64_t>> starts,
                                                    std::optional<In<std::int64_t>> sizes,
                                                    std::int64_t min_video_duration_ms, std::int64_t now,
                                                    std::int64_t retention_seconds, bool stamp_deletes_now) {
  const Messages messages(source, starts, sizes);
  auto out = std::make_unique<InNetworkColumns>();
  const FeederRules rules{min_video_duration_ms, now, retention_seconds, stamp_deletes_now};
  nb::gil_scoped_release release;
  decode_network(messages.slices(), rules, *out);
  return out;
}

nb::tuple py_encode_in_network(const InNetworkColumns& columns) {
  Encoded encoded;
  {
    nb::gil_scoped_release release;
    encoded = encode_in_network(columns);
  }
  return nb::make_tuple(to_bytes(encoded.bytes), move_out<std::int64_t>(std::move(encoded.offsets)),
                        move_out<std::int64_t>(std::move(encoded.keys)),
                        move_out<std::uint8_t>(std::move(encoded.variants)));
}

Out<bool> py_concerns_users(nb::handle source, std::optional<In<std::int64_t>> starts,
                            std::optional<In<std::int64_t>> sizes, In<std::uint64_t> users) {
  const Messages messages(source, starts, sizes);
  std::vector<std::uint8_t> result;
  {
    nb::gil_scoped_release release;
    result = concerns_users(messages.slices(), {users.data(), users.shape(0)});
  }
  return move_out<bool>(std::move(result));
}

nb::bytes py_frame(nb::handle source, std::uint64_t first_offset, std::int64_t time_ms) {
  const Messages messages(source, std::nullopt, std::nullopt);
  for (const auto& slice : messages.slices())
    if (slice.data == nullptr) throw std::invalid_argument("a message is None");
  std::vector<std::uint8_t> out;
  {
    nb::gil_scoped_release release;
    out = frame(messages.slices(), first_offset, time_ms);
  }
  return to_bytes(out);
}

// The bytes of a Python buffer; held while the GIL is released.
class Buffer {
 public:
  explicit Buffer(nb::handle source) {
    if (PyObject_GetBuffer(source.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
  }
  ~Buffer() { PyBuffer_Release(&view_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  const std::uint8_t* data() const { return static_cast<const std::uint8_t*>(view_.buf); }
  std::size_t size() const { return static_cast<std::size_t>(view_.len); }

 private:
  Py_buffer view_{};
};

nb::tuple py_scan(nb::handle source, std::size_t limit, std::size_t max_size) {
  const Buffer buffer(source);
  Frames frames;
  {
    nb::gil_scoped_release release;
    frames = scan(buffer.data(), buffer.size(), limit, max_size);
  }
  return nb::make_tuple(move_out<std::int64_t>(std::move(frames.starts)),
                        move_out<std::int64_t>(std::move(frames.sizes)),
                        move_out<std::int64_t>(std::move(frames.offsets)),
                        move_out<std::int64_t>(std::move(frames.times_ms)), frames.used, frames.damaged);
}

std::size_t py_find_record(nb::handle source, std::size_t start, std::uint64_t min_offset, std::size_t max_size) {
  const Buffer buffer(source);
  nb::gil_scoped_release release;
  return find_record(buffer.data(), buffer.size(), start, min_offset, max_size);
}

[[noreturn]] void refuse(wire::Fault fault, const char* what) {
  throw std::invalid_argument(std::string(what) + " cannot be read (fault " + std::to_string(static_cast<int>(fault)) +
                              ")");
}

nb::tuple py_decode_request(nb::bytes message) {
  Request request;
  const auto fault = decode_request({reinterpret_cast<const std::uint8_t*>(message.c_str()), message.size()}, request);
  if (fault != wire::Fault::none) refuse(fault, "the request");
  return nb::make_tuple(request.user_id, move_out<std::int64_t>(std::move(request.following)),
                        move_out<std::int64_t>(std::move(request.excluded)), request.max_results, request.video_only,
                        nb::bytes(request.algorithm.data(), request.algorithm.size()), request.debug);
}

nb::bytes py_encode_request(std::uint64_t user_id, In<std::int64_t> following, In<std::int64_t> excluded,
                            std::int64_t max_results, bool video_only, const std::string& algorithm, bool debug) {
  Request request;
  request.user_id = user_id;
  request.following.assign(following.data(), following.data() + following.shape(0));
  request.excluded.assign(excluded.data(), excluded.data() + excluded.shape(0));
  request.max_results = max_results;
  request.video_only = video_only;
  request.algorithm = algorithm;
  request.debug = debug;
  return to_bytes(encode_request(request));
}

nb::bytes py_encode_response(In<std::int64_t> post_id, In<std::int64_t> author_id, In<std::int64_t> created_at,
                             In<std::int64_t> in_reply_to_post_id, In<std::int64_t> in_reply_to_user_id,
                             In<bool> is_retweet, In<bool> is_reply, In<std::int64_t> source_post_id,
                             In<std::int64_t> source_user_id, In<bool> has_video, In<std::int64_t> conversation_id) {
  const std::size_t rows = post_id.shape(0);
  const auto ids = [rows](const In<std::int64_t>& column) {
    if (column.shape(0) != rows) throw std::invalid_argument("the columns differ in length");
    return std::span<const std::int64_t>(column.data(), rows);
  };
  const auto flags = [rows](const In<bool>& column) {
    if (column.shape(0) != rows) throw std::invalid_argument("the columns differ in length");
    return std::span<const std::uint8_t>(reinterpret_cast<const std::uint8_t*>(column.data()), rows);
  };
  PostSpans posts;
  posts.post_id = ids(post_id);
  posts.author_id = ids(author_id);
  posts.created_at = ids(created_at);
  posts.in_reply_to_post_id = ids(in_reply_to_post_id);
  posts.in_reply_to_user_id = ids(in_reply_to_user_id);
  posts.source_post_id = ids(source_post_id);
  posts.source_user_id = ids(source_user_id);
  posts.conversation_id = ids(conversation_id);
  posts.is_retweet = flags(is_retweet);
  posts.is_reply = flags(is_reply);
  posts.has_video = flags(has_video);
  std::vector<std::uint8_t> bytes;
  {
    nb::gil_scoped_release release;
    bytes = encode_response(posts);
  }
  return to_bytes(bytes);
}

nb::dict py_decode_response(nb::bytes message) {
  auto* posts = new PostVectors;
  nb::capsule owner(posts, [](void* p) noexcept { delete static_cast<PostVectors*>(p); });
  const auto fault = decode_response({reinterpret_cast<const std::uint8_t*>(message.c_str()), message.size()}, *posts);
  if (fault != wire::Fault::none) refuse(fault, "the response");
  return post_columns(*posts, owner);
}

}  // namespace

NB_MODULE(_wire, m) {
  nb::class_<InNetworkColumns>(m, "InNetworkColumns")
      .def("creates", [](nb::handle self) { return post_columns(nb::cast<const InNetworkColumns&>(self), self); })
      .def("encode", &py_encode_in_network)
      .def_prop_ro(
          "create_index",
          [](nb::handle self) { return view<std::uint32_t>(nb::cast<InNetworkColumns&>(self).create_index, self); })
      .def_prop_ro(
          "deleted_id",
          [](nb::handle self) { return view<std::int64_t>(nb::cast<InNetworkColumns&>(self).deleted_id, self); })
      .def_prop_ro(
          "deleted_at",
          [](nb::handle self) { return view<std::int64_t>(nb::cast<InNetworkColumns&>(self).deleted_at, self); })
      .def_prop_ro(
          "account_id",
          [](nb::handle self) { return view<std::int64_t>(nb::cast<InNetworkColumns&>(self).account_id, self); })
      .def_prop_ro(
          "account_state",
          [](nb::handle self) { return view<std::uint8_t>(nb::cast<InNetworkColumns&>(self).account_state, self); })
      .def_prop_ro(
          "bad_index",
          [](nb::handle self) { return view<std::uint32_t>(nb::cast<InNetworkColumns&>(self).bad_index, self); })
      .def_prop_ro(
          "bad_fault",
          [](nb::handle self) { return view<std::uint8_t>(nb::cast<InNetworkColumns&>(self).bad_fault, self); })
      .def_ro("empty", &InNetworkColumns::empty)
      .def_ro("unknown", &InNetworkColumns::unknown)
      .def_ro("other", &InNetworkColumns::other)
      .def_ro("nullcast", &InNetworkColumns::nullcast)
      .def_ro("late_deletes", &InNetworkColumns::late_deletes);
  m.def("decode_in_network", &py_decode_in_network, "messages"_a, "starts"_a = nb::none(), "sizes"_a = nb::none());
  m.def("decode_network", &py_decode_network, "messages"_a, "starts"_a = nb::none(), "sizes"_a = nb::none(),
        nb::kw_only(), "min_video_duration_ms"_a, "now"_a, "retention_seconds"_a, "stamp_deletes_now"_a);
  m.def("concerns_users", &py_concerns_users, "messages"_a, "starts"_a.none(), "sizes"_a.none(), "users"_a);
  m.def(
      "has_playable_video",
      [](const std::vector<std::int32_t>& kinds, const std::vector<std::int64_t>& durations_ms, std::int64_t minimum) {
        if (kinds.size() != durations_ms.size()) throw std::invalid_argument("kinds and durations_ms differ in length");
        return has_playable_video(kinds, durations_ms, minimum);
      },
      "kinds"_a, "durations_ms"_a, "min_duration_ms"_a);
  m.def("frame", &py_frame, "messages"_a, "first_offset"_a, "time_ms"_a);
  m.def("scan", &py_scan, "buffer"_a, "limit"_a, "max_size"_a);
  m.def("find_record", &py_find_record, "buffer"_a, "start"_a, "min_offset"_a, "max_size"_a);
  m.def("decode_request", &py_decode_request, "message"_a);
  m.def("encode_request", &py_encode_request, "user_id"_a, "following"_a, "excluded"_a, "max_results"_a, "video_only"_a,
        "algorithm"_a, "debug"_a);
  m.def("encode_response", &py_encode_response, "post_id"_a, "author_id"_a, "created_at"_a, "in_reply_to_post_id"_a,
        "in_reply_to_user_id"_a, "is_retweet"_a, "is_reply"_a, "source_post_id"_a, "source_user_id"_a, "has_video"_a,
        "conversation_id"_a);
  m.def("decode_response", &py_decode_response, "message"_a);
}
