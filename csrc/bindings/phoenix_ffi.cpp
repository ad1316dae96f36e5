#include "phoenix_ffi.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace nb = nanobind;
namespace xla_ffi = ::xla::ffi;

namespace xfast::phoenix::ffi {
namespace {

struct Roll {
  std::mutex mutex;
  std::int64_t last = 0;
  std::unordered_map<std::int64_t, std::weak_ptr<const RankerTower>> towers;
};

Roll& roll() {
  static Roll* one = new Roll;  // outlives every thread of XLA
  return *one;
}

std::shared_ptr<const RankerTower> find(std::int64_t number) {
  Roll& r = roll();
  const std::lock_guard lock(r.mutex);
  const auto it = r.towers.find(number);
  const auto tower = it == r.towers.end() ? nullptr : it->second.lock();
  if (tower == nullptr) throw std::invalid_argument("the ranker that this was compiled for is gone, must be kept");
  return tower;
}

using F32 = xla_ffi::Buffer<xla_ffi::F32>;
using S32 = xla_ffi::Buffer<xla_ffi::S32>;
using Flags = xla_ffi::Buffer<xla_ffi::PRED>;
using Bytes = xla_ffi::Buffer<xla_ffi::U8>;

void expect(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

template <class Buffer>
void expect_shape(const Buffer& buffer, std::initializer_list<std::size_t> shape, const char* name) {
  const auto dims = buffer.dimensions();
  bool same = dims.size() == shape.size();
  std::size_t i = 0;
  for (const std::size_t wanted : shape) {
    same = same && static_cast<std::size_t>(dims[i]) == wanted;
    ++i;
  }
  if (!same) throw std::invalid_argument(std::string(name) + " has the wrong shape");
}

// What stands before the numbers of a context.
struct Header {
  std::uint32_t magic = 0x78666b76;  // "xfkv"
  std::uint32_t tokens = 0;
  std::uint64_t room = 0;
};
constexpr std::size_t kHeaderBytes = 64;

// A cache in the memory of context `index` of a buffer [B, bytes].
ContextCache open(const RankerTower& tower, char* context, std::size_t bytes) {
  Header header;
  std::memcpy(&header, context, sizeof header);
  expect(header.magic == Header{}.magic && header.tokens <= header.room && bytes == context_bytes(tower, header.room),
         "contexts holds no context of this ranker");
  return {tower.spec().dim, tower.spec().kv, header.tokens, header.room, context + kHeaderBytes};
}

void close(char* context, std::size_t room, std::size_t tokens) {
  Header header;
  header.tokens = static_cast<std::uint32_t>(tokens);
  header.room = room;
  std::memcpy(context, &header, sizeof header);
}

Workers workers_of(xla_ffi::ThreadPool& pool, std::int64_t threads) {
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(pool.num_threads(), 0)) + 1;
  return {std::min(static_cast<std::size_t>(threads), most),
          [&pool](std::function<void()> task) { pool.Schedule(std::move(task)); }};
}

// Runs a handler's body; what it throws becomes XLA's error.
template <class Body>
xla_ffi::Error guarded(Body body) {
  try {
    body();
    return xla_ffi::Error::Success();
  } catch (const std::invalid_argument& error) {
    return xla_ffi::Error::InvalidArgument(error.what());
  } catch (const std::exception& error) {
    return xla_ffi::Error::Internal(error.what());
  }
}

xla_ffi::Error score(xla_ffi::ThreadPool pool, std::int64_t ranker, std::int64_t threads, Bytes contexts, F32 posts,
                     F32 authors, Flags valid, S32 positions, S32 surface, S32 age,
                     xla_ffi::ResultBuffer<xla_ffi::F32> logits, xla_ffi::ResultBuffer<xla_ffi::F32> probabilities,
                     xla_ffi::ResultBuffer<xla_ffi::F32> continuous) {
  return guarded([&] {
    const auto tower = find(ranker);
    const TowerSpec& spec = tower->spec();
    expect(contexts.dimensions().size() == 2 && valid.dimensions().size() == 2, "contexts or valid is no matrix");
    const auto viewers = static_cast<std::size_t>(valid.dimensions()[0]);
    const auto count = static_cast<std::size_t>(valid.dimensions()[1]);
    const auto bytes = static_cast<std::size_t>(contexts.dimensions()[1]);
    expect_shape(contexts, {viewers, bytes}, "contexts");
    expect_shape(posts, {viewers, count, spec.item_hashes, spec.dim.emb}, "post_embeddings");
    expect_shape(authors, {viewers, count, spec.author_hashes, spec.dim.emb}, "author_embeddings");
    expect_shape(positions, {viewers, count}, "positions");
    expect_shape(surface, {viewers, count}, "product_surface");
    expect_shape(age, {viewers, count}, "age_bucket");
    expect_shape(*logits, {viewers, count, spec.actions}, "logits");
    expect_shape(*probabilities, {viewers, count, spec.actions}, "probabilities");
    expect_shape(*continuous, {viewers, count, spec.continuous}, "continuous");
    std::vector<ContextCache> caches;
    caches.reserve(viewers);
    std::vector<ScoreList> lists(viewers);
    for (std::size_t v = 0; v < viewers; ++v) {
      caches.push_back(open(*tower, reinterpret_cast<char*>(contexts.typed_data()) + v * bytes, bytes));
      const std::size_t at = v * count;
      CandidateInput in;
      in.count = count;
      in.posts.values = posts.typed_data() + at * spec.item_hashes * spec.dim.emb;
      in.authors.values = authors.typed_data() + at * spec.author_hashes * spec.dim.emb;
      in.valid = reinterpret_cast<const std::uint8_t*>(valid.typed_data() + at);
      in.positions = positions.typed_data() + at;
      in.surface = surface.typed_data() + at;
      in.age_bucket = age.typed_data() + at;
      lists[v] = {&caches[v], in, logits->typed_data() + at * spec.actions,
                  probabilities->typed_data() + at * spec.actions, continuous->typed_data() + at * spec.continuous};
    }
    tower->score(lists, workers_of(pool, threads));
  });
}

template <class T>
T argument(const xla_ffi::RemainingArgs& args, std::size_t index) {
  const xla_ffi::ErrorOr<T> value = args.get<T>(index);
  if (value.has_error()) throw std::invalid_argument(value.error().message());
  return *value;
}

// The history slots of a batch of viewers: what `encode` and `append` take last.
struct History {
  F32 posts, authors;
  Flags valid;
  S32 positions;  // those of `before` tokens, then of the slots
  F32 actions;
  S32 surface;
  F32 dwell;
  std::size_t before, viewers = 0, slots = 0;

  History(const xla_ffi::RemainingArgs& args, const TowerSpec& spec, std::size_t tokens_before)
      : posts(argument<F32>(args, 0)),
        authors(argument<F32>(args, 1)),
        valid(argument<Flags>(args, 2)),
        positions(argument<S32>(args, 3)),
        actions(argument<F32>(args, 4)),
        surface(argument<S32>(args, 5)),
        dwell(argument<F32>(args, 6)),
        before(tokens_before) {
    expect(valid.dimensions().size() == 2, "valid is no matrix");
    viewers = static_cast<std::size_t>(valid.dimensions()[0]);
    slots = static_cast<std::size_t>(valid.dimensions()[1]);
    expect_shape(posts, {viewers, slots, spec.item_hashes, spec.dim.emb}, "post_embeddings");
    expect_shape(authors, {viewers, slots, spec.author_hashes, spec.dim.emb}, "author_embeddings");
    expect_shape(positions, {viewers, before + slots}, "positions");
    expect_shape(actions, {viewers, slots, spec.actions}, "actions");
    expect_shape(surface, {viewers, slots}, "product_surface");
    expect_shape(dwell, {viewers, slots}, "dwell");
  }
};

// One viewer's valid slots side by side; the engine leaves out what nobody can see.
struct Compact {
  std::vector<float> posts, authors, actions, dwell;
  std::vector<std::int32_t> positions, surface;

  Compact(const TowerSpec& spec, const History& h, std::size_t viewer) {
    const std::size_t stride = h.before + h.slots;
    const std::int32_t* place = h.positions.typed_data() + viewer * stride;
    positions.push_back(h.before > 0 ? place[0] : 0);
    const auto take = [&](auto& to, const auto* from, std::size_t width, std::size_t slot) {
      const auto* row = from + (viewer * h.slots + slot) * width;
      to.insert(to.end(), row, row + width);
    };
    for (std::size_t s = 0; s < h.slots; ++s) {
      if (!h.valid.typed_data()[viewer * h.slots + s]) continue;
      take(posts, h.posts.typed_data(), spec.item_hashes * spec.dim.emb, s);
      take(authors, h.authors.typed_data(), spec.author_hashes * spec.dim.emb, s);
      take(actions, h.actions.typed_data(), spec.actions, s);
      take(surface, h.surface.typed_data(), 1, s);
      take(dwell, h.dwell.typed_data(), 1, s);
      positions.push_back(place[h.before + s]);
    }
  }

  ContextInput input() const {
    ContextInput in;
    in.tokens = surface.size();
    in.posts.values = posts.data();
    in.authors.values = authors.data();
    in.positions = positions.data();
    in.actions = actions.data();
    in.surface = surface.data();
    in.dwell = dwell.data();
    return in;
  }
};

xla_ffi::Error encode(xla_ffi::ThreadPool pool, std::int64_t ranker, std::int64_t threads, std::int64_t room, F32 user,
                      Flags user_valid, F32 ip_sum, xla_ffi::RemainingArgs slots,
                      xla_ffi::ResultBuffer<xla_ffi::U8> contexts) {
  return guarded([&] {
    const auto tower = find(ranker);
    const TowerSpec& spec = tower->spec();
    const History history(slots, spec, 1);
    const std::size_t viewers = history.viewers;
    const std::size_t bytes = context_bytes(*tower, static_cast<std::size_t>(room));
    expect_shape(user, {viewers, spec.user_hashes, spec.dim.emb}, "user_embeddings");
    expect_shape(user_valid, {viewers}, "user_valid");
    expect_shape(*contexts, {viewers, bytes}, "contexts");
    const bool with_ip = ip_sum.element_count() > 0;
    if (with_ip) expect_shape(ip_sum, {viewers, spec.dim.emb}, "ip_sum");
    const Workers workers = workers_of(pool, threads);
    for (std::size_t v = 0; v < viewers; ++v) {
      const Compact compact(spec, history, v);
      ContextInput in = compact.input();
      in.user_valid = user_valid.typed_data()[v];
      in.user_embeddings = user.typed_data() + v * spec.user_hashes * spec.dim.emb;
      in.ip_sum = with_ip ? ip_sum.typed_data() + v * spec.dim.emb : nullptr;
      expect(in.tokens + 1 <= static_cast<std::size_t>(room), "room is less than the tokens");
      char* context = reinterpret_cast<char*>(contexts->typed_data()) + v * bytes;
      std::memset(context, 0, bytes);
      ContextCache cache(spec.dim, spec.kv, 0, static_cast<std::size_t>(room), context + kHeaderBytes);
      tower->encode_into(in, workers, 0, cache);
      close(context, static_cast<std::size_t>(room), cache.tokens);
    }
  });
}

xla_ffi::Error append(xla_ffi::ThreadPool pool, std::int64_t ranker, std::int64_t threads, Bytes contexts,
                      xla_ffi::RemainingArgs slots, xla_ffi::ResultBuffer<xla_ffi::U8> grown) {
  return guarded([&] {
    const auto tower = find(ranker);
    const TowerSpec& spec = tower->spec();
    expect(spec.causal, "context_attention is 'bidirectional', must be 'causal' to append");
    const History history(slots, spec, 0);
    const std::size_t viewers = history.viewers;
    expect(contexts.dimensions().size() == 2, "contexts is no matrix");
    const auto bytes = static_cast<std::size_t>(contexts.dimensions()[1]);
    expect_shape(contexts, {viewers, bytes}, "contexts");
    expect_shape(*grown, {viewers, bytes}, "contexts");
    // XLA gives the very same memory where the old contexts are donated.
    if (grown->typed_data() != contexts.typed_data())
      std::memcpy(grown->typed_data(), contexts.typed_data(), viewers * bytes);
    const Workers workers = workers_of(pool, threads);
    for (std::size_t v = 0; v < viewers; ++v) {
      char* context = reinterpret_cast<char*>(grown->typed_data()) + v * bytes;
      ContextCache cache = open(*tower, context, bytes);
      Header header;
      std::memcpy(&header, context, sizeof header);
      const Compact compact(spec, history, v);
      const ContextInput in = compact.input();
      expect(cache.tokens + in.tokens <= header.room, "contexts has no room for these tokens");
      tower->encode_into(in, workers, cache.tokens, cache);
      close(context, header.room, cache.tokens);
    }
  });
}

auto bind() {
  return xla_ffi::Ffi::Bind().Ctx<xla_ffi::ThreadPool>().Attr<std::int64_t>("ranker").Attr<std::int64_t>("threads");
}

XLA_FFI_DEFINE_HANDLER(kScore, score,
                       bind()
                           .Arg<Bytes>()  // contexts
                           .Arg<F32>()    // posts
                           .Arg<F32>()    // authors
                           .Arg<Flags>()  // valid
                           .Arg<S32>()    // positions
                           .Arg<S32>()    // surface
                           .Arg<S32>()    // age
                           .Ret<F32>()    // logits
                           .Ret<F32>()    // probabilities
                           .Ret<F32>());  // continuous
XLA_FFI_DEFINE_HANDLER(kEncode, encode,
                       bind()
                           .Attr<std::int64_t>("room")
                           .Arg<F32>()    // user
                           .Arg<Flags>()  // user_valid
                           .Arg<F32>()    // ip_sum
                           .RemainingArgs()
                           .Ret<Bytes>());
XLA_FFI_DEFINE_HANDLER(kAppend, append, bind().Arg<Bytes>().RemainingArgs().Ret<Bytes>());

}  // namespace

std::int64_t enroll(const std::shared_ptr<const RankerTower>& tower) {
  Roll& r = roll();
  const std::lock_guard lock(r.mutex);
  r.towers[++r.last] = tower;
  return r.last;
}

void dismiss(std::int64_t number) {
  Roll& r = roll();
  const std::lock_guard lock(r.mutex);
  r.towers.erase(number);
}

std::size_t context_bytes(const RankerTower& tower, std::size_t room) {
  return kHeaderBytes + ContextCache::memory_bytes(tower.spec().dim, tower.spec().kv, room);
}

void add_handlers(nb::module_& module) {
  nb::dict handlers;
  handlers["xfast_phoenix_score"] = nb::capsule(reinterpret_cast<void*>(kScore));
  handlers["xfast_phoenix_encode"] = nb::capsule(reinterpret_cast<void*>(kEncode));
  handlers["xfast_phoenix_append"] = nb::capsule(reinterpret_cast<void*>(kAppend));
  module.attr("ffi_handlers") = handlers;
}

}  // namespace xfast::phoenix::ffi
