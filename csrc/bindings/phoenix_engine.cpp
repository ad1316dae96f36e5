#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "phoenix/tower.h"
#include "phoenix_ffi.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace xfast::phoenix;
using xfast::Workers;

namespace {

template <class T, int N>
using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
using Out1 = nb::ndarray<nb::numpy, float, nb::ndim<1>>;
using Out2 = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

std::unique_ptr<float[]> room(std::size_t size) { return std::make_unique<float[]>(size + 1); }

nb::capsule keep(float* data) {
  return nb::capsule(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
}

Out2 matrix(std::unique_ptr<float[]> data, std::size_t rows, std::size_t columns) {
  float* p = data.release();
  return Out2(p, {rows, columns}, keep(p));
}

void expect(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

Precision precision_of(const std::string& name) {
  if (name == "float32") return Precision::float32;
  if (name == "bfloat16") return Precision::bfloat16;
  if (name == "int8") return Precision::int8;
  throw std::invalid_argument("precision is '" + name + "', must be float32, bfloat16 or int8");
}

Parameters parameters_of(const nb::dict& params) {
  Parameters out;
  for (auto [key, value] : params) {
    const auto array = nb::cast<nb::ndarray<const float, nb::c_contig, nb::device::cpu>>(value);
    Tensor tensor{array.data(), 1, 1};
    expect(array.ndim() <= 2, "parameters have at most two dimensions");
    if (array.ndim() >= 1) tensor.columns = array.shape(array.ndim() - 1);
    if (array.ndim() == 2) tensor.rows = array.shape(0);
    out.emplace(nb::cast<std::string>(key), tensor);
  }
  return out;
}

TowerSpec spec_of(const nb::dict& d) {
  const auto size = [&](const char* key) { return nb::cast<std::size_t>(d[key]); };
  TowerSpec spec;
  spec.dim = {size("emb"), size("layers"), size("query_heads"), size("kv_heads"), size("head"), size("ffn")};
  spec.attention_multiplier = nb::cast<float>(d["attention_multiplier"]);
  spec.causal = nb::cast<bool>(d["causal"]);
  spec.precision = precision_of(nb::cast<std::string>(d["precision"]));
  spec.kv.storage = precision_of(nb::cast<std::string>(d["kv_precision"]));
  spec.kv.arithmetic = spec.precision == Precision::float32 ? Precision::float32 : Precision::bfloat16;
  expect(spec.kv.storage >= spec.kv.arithmetic, "kv_precision is 'float32', must be no wider than precision");
  spec.isa = xfast::isa_named(nb::cast<std::string>(d["isa"]));
  spec.user_hashes = size("user_hashes");
  spec.item_hashes = size("item_hashes");
  spec.author_hashes = size("author_hashes");
  spec.actions = size("actions");
  spec.continuous = size("continuous");
  spec.dwell_hidden = size("dwell_hidden");
  spec.dwell_scale = nb::cast<float>(d["dwell_scale"]);
  spec.dwell_log = nb::cast<bool>(d["dwell_log"]);
  return spec;
}

// Rows [n, hashes, emb] of posts or authors, or a table and its rows' numbers [n, hashes].
using Rows = std::variant<In<float, 3>, std::tuple<In<float, 2>, In<std::int32_t, 2>>>;

EmbeddingRows embedding_rows(const Rows& rows, std::size_t n, std::size_t hashes, std::size_t emb, const char* error) {
  EmbeddingRows out;
  if (const auto* gathered = std::get_if<0>(&rows)) {
    expect(gathered->shape(0) == n && gathered->shape(1) == hashes && gathered->shape(2) == emb, error);
    out.values = gathered->data();
    return out;
  }
  const auto& [table, index] = std::get<1>(rows);
  expect(table.shape(1) == emb && index.shape(0) == n && index.shape(1) == hashes, error);
  for (std::size_t i = 0; i < n * hashes; ++i)
    expect(index.data()[i] >= 0 && static_cast<std::size_t>(index.data()[i]) < table.shape(0), error);
  out.table = table.data();
  out.index = index.data();
  return out;
}

// History tokens: posts, authors, positions (the user's first), actions, surface, dwell.
using History = std::tuple<Rows, Rows, In<std::int32_t, 1>, In<float, 2>, In<std::int32_t, 1>, In<float, 1>>;
// Whether there is a user, the user's rows, and the sum of the rows of IP addresses.
using User = std::tuple<bool, In<float, 2>, std::optional<In<float, 1>>>;

ContextInput history_input(const TowerSpec& spec, const History& history) {
  const auto& [posts, authors, positions, actions, surface, dwell] = history;
  const std::size_t n = surface.shape(0), emb = spec.dim.emb;
  expect(positions.shape(0) == n + 1, "positions has the wrong length");
  expect(actions.shape(0) == n && actions.shape(1) == spec.actions, "actions has the wrong shape");
  expect(dwell.shape(0) == n, "product_surface or dwell has the wrong length");
  ContextInput in;
  in.tokens = n;
  in.posts = embedding_rows(posts, n, spec.item_hashes, emb, "post_embeddings has the wrong shape or rows");
  in.authors = embedding_rows(authors, n, spec.author_hashes, emb, "author_embeddings has the wrong shape or rows");
  in.positions = positions.data();
  in.actions = actions.data();
  in.surface = surface.data();
  in.dwell = dwell.data();
  return in;
}

ContextInput context_input(const TowerSpec& spec, const User& user, const History& history) {
  const auto& [valid, embeddings, ip_sum] = user;
  const std::size_t emb = spec.dim.emb;
  expect(embeddings.shape(0) == spec.user_hashes && embeddings.shape(1) == emb, "user_embeddings has the wrong shape");
  expect(!ip_sum || ip_sum->shape(0) == emb, "ip_sum has the wrong length");
  ContextInput in = history_input(spec, history);
  in.user_valid = valid;
  in.user_embeddings = embeddings.data();
  in.ip_sum = ip_sum ? ip_sum->data() : nullptr;
  return in;
}

// The Python object: a tower that compiled XLA programs may name, too.
struct Ranker {
  Ranker(const nb::dict& params, const nb::dict& spec)
      : tower(std::make_shared<const RankerTower>(spec_of(spec), parameters_of(params))), number(ffi::enroll(tower)) {}
  Ranker(const Ranker&) = delete;
  Ranker& operator=(const Ranker&) = delete;
  ~Ranker() { ffi::dismiss(number); }

  std::shared_ptr<const RankerTower> tower;
  std::int64_t number;
};

Workers crew(std::size_t threads) {
  expect(threads > 0, "threads is 0, must be at least 1");
  return Workers{threads};
}

std::shared_ptr<ContextCache> encode(const Ranker& ranker, const User& user, const History& history,
                                     std::size_t threads) {
  const ContextInput in = context_input(ranker.tower->spec(), user, history);
  const Workers workers = crew(threads);
  nb::gil_scoped_release release;
  return ranker.tower->encode(in, workers);
}

std::shared_ptr<ContextCache> append(const Ranker& ranker, const ContextCache& context, const History& history,
                                     std::size_t threads) {
  const ContextInput in = history_input(ranker.tower->spec(), history);
  const Workers workers = crew(threads);
  nb::gil_scoped_release release;
  return ranker.tower->append(context, in, workers);
}

using KeysValues = nb::ndarray<nb::numpy, float, nb::ndim<4>>;

std::tuple<KeysValues, KeysValues> unpack(const ContextCache& context) {
  const Dimensions& dim = context.dim;
  const std::size_t size = dim.layers * dim.kv_heads * context.tokens * dim.head;
  float *keys = room(size).release(), *values = room(size).release();
  const nb::capsule keys_owner = keep(keys), values_owner = keep(values);
  context.unpack(keys, values);
  return {KeysValues(keys, {dim.layers, dim.kv_heads, context.tokens, dim.head}, keys_owner),
          KeysValues(values, {dim.layers, dim.kv_heads, context.tokens, dim.head}, values_owner)};
}

std::shared_ptr<ContextCache> restore(const Ranker& ranker, In<float, 4> keys, In<float, 4> values) {
  const TowerSpec& spec = ranker.tower->spec();
  const Dimensions& dim = spec.dim;
  const std::size_t tokens = keys.shape(2);
  for (const auto& array : {keys, values})
    expect(array.shape(0) == dim.layers && array.shape(1) == dim.kv_heads && array.shape(2) == tokens &&
               array.shape(3) == dim.head,
           "keys or values has the wrong shape");
  auto cache = std::make_shared<ContextCache>(dim, spec.kv, tokens);
  cache->pack(keys.data(), values.data());
  return cache;
}

using Columns = std::tuple<Rows, Rows, In<bool, 1>, In<std::int32_t, 1>, In<std::int32_t, 1>,
                           In<std::int32_t, 1>>;  // posts, authors, valid, positions, surface, age bucket
using Scores = std::tuple<Out2, Out2, Out2>;

CandidateInput candidate_input(const TowerSpec& spec, const Columns& columns) {
  const auto& [posts, authors, valid, positions, surface, age_bucket] = columns;
  const std::size_t n = valid.shape(0), emb = spec.dim.emb;
  expect(positions.shape(0) == n && surface.shape(0) == n && age_bucket.shape(0) == n,
         "the candidate columns differ in length");
  CandidateInput in;
  in.count = n;
  in.posts = embedding_rows(posts, n, spec.item_hashes, emb, "post_embeddings has the wrong shape or rows");
  in.authors = embedding_rows(authors, n, spec.author_hashes, emb, "author_embeddings has the wrong shape or rows");
  in.valid = reinterpret_cast<const std::uint8_t*>(valid.data());
  in.positions = positions.data();
  in.surface = surface.data();
  in.age_bucket = age_bucket.data();
  return in;
}

std::vector<Scores> score(const Ranker& ranker, const std::vector<std::shared_ptr<ContextCache>>& contexts,
                          const std::vector<Columns>& candidates, std::size_t threads) {
  const TowerSpec& spec = ranker.tower->spec();
  expect(contexts.size() == candidates.size(), "contexts and candidates differ in length");
  const Workers workers = crew(threads);
  std::vector<ScoreList> lists(contexts.size());
  std::vector<Scores> scores;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const CandidateInput in = candidate_input(spec, candidates[i]);
    auto logits = room(in.count * spec.actions), probabilities = room(in.count * spec.actions),
         continuous = room(in.count * spec.continuous);
    lists[i] = {contexts[i].get(), in, logits.get(), probabilities.get(), continuous.get()};
    scores.emplace_back(matrix(std::move(logits), in.count, spec.actions),
                        matrix(std::move(probabilities), in.count, spec.actions),
                        matrix(std::move(continuous), in.count, spec.continuous));
  }
  nb::gil_scoped_release release;
  ranker.tower->score(lists, workers);
  return scores;
}

std::tuple<Out1, float> encode_user(const RetrievalTower& tower, const User& user, const History& history,
                                    std::size_t threads) {
  const ContextInput in = context_input(tower.spec(), user, history);
  const Workers workers = crew(threads);
  auto vector = room(tower.spec().dim.emb);
  float length = 0;
  {
    nb::gil_scoped_release release;
    length = tower.encode(in, workers, vector.get());
  }
  float* p = vector.release();
  return {Out1(p, {tower.spec().dim.emb}, keep(p)), length};
}

Out2 encode_candidates(const RetrievalTower& tower, In<float, 3> posts, In<float, 3> authors, std::size_t threads) {
  const TowerSpec& spec = tower.spec();
  const std::size_t n = posts.shape(0), emb = spec.dim.emb;
  expect(posts.shape(1) == spec.item_hashes && posts.shape(2) == emb, "post_embeddings has the wrong shape");
  expect(authors.shape(0) == n && authors.shape(1) == spec.author_hashes && authors.shape(2) == emb,
         "author_embeddings has the wrong shape");
  auto vectors = room(n * emb);
  {
    nb::gil_scoped_release release;
    tower.encode_candidates(posts.data(), authors.data(), n, vectors.get(), threads);
  }
  return matrix(std::move(vectors), n, emb);
}

}  // namespace

NB_MODULE(_engine, m) {
  nb::class_<ContextCache>(m, "Context")
      .def_prop_ro("tokens", [](const ContextCache& c) { return c.tokens; })
      .def_prop_ro("nbytes", &ContextCache::bytes)
      .def("unpack", &unpack);

  nb::class_<Ranker>(m, "RankerTower")
      .def(nb::init<const nb::dict&, const nb::dict&>(), "params"_a, "spec"_a)
      .def_prop_ro("weight_bytes", [](const Ranker& r) { return r.tower->weight_bytes(); })
      .def_prop_ro("number", [](const Ranker& r) { return r.number; })
      .def(
          "context_bytes", [](const Ranker& r, std::size_t room) { return ffi::context_bytes(*r.tower, room); },
          "room"_a)
      .def("encode", &encode, "user"_a, "history"_a, "threads"_a)
      .def("append", &append, "context"_a, "history"_a, "threads"_a)
      .def("restore", &restore, "keys"_a, "values"_a)
      .def("score", &score, "contexts"_a, "candidates"_a, "threads"_a);
  ffi::add_handlers(m);

  nb::class_<RetrievalTower>(m, "RetrievalTower")
      .def(
          "__init__",
          [](RetrievalTower* self, const nb::dict& params, const nb::dict& spec, bool linear_projection) {
            new (self) RetrievalTower(spec_of(spec), parameters_of(params), linear_projection);
          },
          "params"_a, "spec"_a, "linear_projection"_a)
      .def_prop_ro("weight_bytes", &RetrievalTower::weight_bytes)
      .def("encode", &encode_user, "user"_a, "history"_a, "threads"_a)
      .def("encode_candidates", &encode_candidates, "post_embeddings"_a, "author_embeddings"_a, "threads"_a);
}
