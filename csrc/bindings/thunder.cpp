#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>
#include <system_error>

#include "thunder/snapshot_file.h"
#include "thunder/store.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace xfast::thunder;
using Ids = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Flags = nb::ndarray<const bool, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IdColumn = nb::ndarray<nb::numpy, const std::int64_t, nb::ndim<1>>;
using FlagColumn = nb::ndarray<nb::numpy, const bool, nb::ndim<1>>;

std::span<const std::int64_t> span(const Ids& ids) { return {ids.data(), ids.shape(0)}; }

template <class Array>
auto column(const std::optional<Array>& array, std::size_t count) {
  if (array && array->shape(0) != count) throw std::invalid_argument("the columns differ in length");
  return array ? array->data() : nullptr;
}

std::size_t insert(PostStore& store, const Ids& post_id, const Ids& author_id, const Ids& created_at,
                   const std::optional<Ids>& parent_id, const std::optional<Ids>& parent_user,
                   const std::optional<Flags>& is_retweet, const std::optional<Flags>& is_reply,
                   const std::optional<Ids>& source_id, const std::optional<Ids>& source_user,
                   const std::optional<Flags>& has_video, const std::optional<Ids>& conversation, std::uint32_t now) {
  PostColumns posts;
  posts.count = post_id.shape(0);
  const auto flags = [&](const std::optional<Flags>& array) {
    return reinterpret_cast<const std::uint8_t*>(column(array, posts.count));
  };
  posts.post_id = post_id.data();
  posts.author_id = column(std::optional(author_id), posts.count);
  posts.created_at = column(std::optional(created_at), posts.count);
  posts.parent_id = column(parent_id, posts.count);
  posts.parent_user = column(parent_user, posts.count);
  posts.source_id = column(source_id, posts.count);
  posts.source_user = column(source_user, posts.count);
  posts.conversation = column(conversation, posts.count);
  posts.is_retweet = flags(is_retweet);
  posts.is_reply = flags(is_reply);
  posts.has_video = flags(has_video);
  const nb::gil_scoped_release release;
  return store.insert(posts, now);
}

// The table owns the memory of its columns.
PostTable* query(const PostStore& store, std::int64_t viewer, const Ids& following, const std::optional<Ids>& exclude,
                 std::uint32_t max_results, bool video, std::uint32_t now, const nb::object& elapsed_ms) {
  Query query;
  query.viewer = viewer;
  query.following = span(following);
  if (exclude) query.exclude = span(*exclude);
  query.max_results = max_results;
  query.video = video;
  query.now = now;
  if (!elapsed_ms.is_none())
    query.elapsed_ms = [&elapsed_ms] {
      const nb::gil_scoped_acquire acquire;
      return nb::cast<double>(elapsed_ms());
    };
  auto table = std::make_unique<PostTable>();
  {
    const nb::gil_scoped_release release;
    store.query(query, *table);
  }
  return table.release();
}

IdColumn id_column(nb::handle_t<PostTable> self, std::size_t index) {
  auto& table = nb::cast<PostTable&>(self);
  if (index >= PostTable::kIds) throw nb::index_error();
  return IdColumn(table.ids(index), {table.size()}, self);
}

FlagColumn flag_column(nb::handle_t<PostTable> self, std::size_t index) {
  auto& table = nb::cast<PostTable&>(self);
  if (index >= PostTable::kFlags) throw nb::index_error();
  return FlagColumn(reinterpret_cast<const bool*>(table.flags(index)), {table.size()}, self);
}

template <class Call>
auto without_gil(Call&& call) {
  const nb::gil_scoped_release release;
  return call();
}

}  // namespace

NB_MODULE(_native, m) {
  static const nb::object parameter_error = nb::module_::import_("xfast.errors").attr("ParameterError");
  static const nb::object snapshot_error = nb::module_::import_("xfast.errors").attr("SnapshotError");
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const ReadError& error) {
      PyErr_SetString(snapshot_error.ptr(), error.what());
    } catch (const std::system_error& error) {
      PyErr_SetString(snapshot_error.ptr(), error.what());
    } catch (const std::invalid_argument& error) {
      PyErr_SetString(parameter_error.ptr(), error.what());
    } catch (const std::length_error& error) {
      PyErr_SetString(parameter_error.ptr(), error.what());
    }
  });

  nb::class_<PostTable>(m, "PostTable")
      .def("__len__", &PostTable::size)
      .def("ids", &id_column, "index"_a)
      .def("flags", &flag_column, "index"_a)
      .def_ro("timed_out", &PostTable::timed_out)
      .def_ro("eligible", &PostTable::eligible)
      .def_ro("deleted_skipped", &PostTable::deleted_skipped);

  nb::class_<PostStore>(m, "Store")
      .def(
          "__init__",
          [](PostStore* self, std::uint32_t retention, std::uint32_t max_original, std::uint32_t max_secondary,
             std::uint32_t max_video, std::uint32_t max_scan, std::uint32_t max_results,
             std::uint32_t max_video_results, std::uint32_t timeout_ms, std::int64_t tombstone_key, bool reference) {
            new (self) PostStore(Config{retention, max_original, max_secondary, max_video, max_scan, max_results,
                                        max_video_results, timeout_ms, tombstone_key, reference});
          },
          nb::kw_only(), "retention"_a, "max_original"_a, "max_secondary"_a, "max_video"_a, "max_scan"_a,
          "max_results"_a, "max_video_results"_a, "timeout_ms"_a, "tombstone_key"_a, "reference"_a)
      .def("insert", &insert, "post_id"_a, "author_id"_a, "created_at"_a, "in_reply_to_post_id"_a.none(),
           "in_reply_to_user_id"_a.none(), "is_retweet"_a.none(), "is_reply"_a.none(), "source_post_id"_a.none(),
           "source_user_id"_a.none(), "has_video"_a.none(), "conversation_id"_a.none(), "now"_a)
      .def(
          "remove",
          [](PostStore& store, const Ids& ids, const Ids& deleted_at) {
            column(std::optional(deleted_at), ids.shape(0));
            without_gil([&] { store.remove(span(ids), span(deleted_at)); });
          },
          "post_ids"_a, "deleted_at"_a)
      .def(
          "trim", [](PostStore& store, std::uint32_t now) { return without_gil([&] { return store.trim(now); }); },
          "now"_a)
      .def(
          "finalize",
          [](PostStore& store, std::uint32_t now) { return without_gil([&] { return store.finalize(now); }); }, "now"_a)
      .def("clear", [](PostStore& store) { without_gil([&] { store.clear(); }); })
      .def(
          "set_account_state",
          [](PostStore& store, const Ids& users, int state) {
            if (state < 0 || state > static_cast<int>(AccountState::erased))
              throw std::invalid_argument("unknown account state");
            without_gil([&] { store.set_account_state(span(users), static_cast<AccountState>(state)); });
          },
          "user_ids"_a, "state"_a)
      .def(
          "account_state",
          [](const PostStore& store, std::int64_t user) { return static_cast<int>(store.account_state(user)); },
          "user_id"_a)
      .def("query", &query, "user_id"_a, "following"_a, "exclude"_a.none(), "max_results"_a, "video"_a, "now"_a,
           "elapsed_ms"_a.none(), nb::rv_policy::take_ownership)
      .def("stats",
           [](const PostStore& store) {
             const Stats stats = store.stats();
             nb::dict out;
             out["users"] = stats.users;
             out["posts"] = stats.posts;
             out["original_posts"] = stats.original;
             out["secondary_posts"] = stats.secondary;
             out["video_posts"] = stats.video;
             out["deleted_posts"] = stats.deleted;
             return out;
           })
      .def("memory",
           [](const PostStore& store) {
             nb::dict out;
             for (const auto& [part, bytes] : store.memory()) out[part] = bytes;
             return out;
           })
      .def(
          "save",
          [](const PostStore& store, const std::string& path, const nb::bytes& position) {
            const std::string_view kept(position.c_str(), position.size());
            return without_gil([&] {
              const std::string content = store.save(kept);
              write_atomically(path, content);
              return content.size();
            });
          },
          "path"_a, "position"_a)
      .def(
          "load",
          [](PostStore& store, const std::string& path) {
            const std::string position = without_gil([&] { return store.load(read_whole(path)); });
            return nb::bytes(position.data(), position.size());
          },
          "path"_a);
}
