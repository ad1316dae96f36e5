#include "phoenix/tower.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "common/thread_pool.h"

namespace xfast::phoenix {
namespace {

constexpr double kRopeBase = 10000.0;
constexpr std::size_t kTablePositions = 4096;        // positions whose sines are kept; later ones are computed per call
constexpr std::size_t kScoreTile = 48;               // candidates of one task
constexpr std::size_t kShareProjection = 4'000'000;  // products below which helpers are not worth waking

// Grow-only memory of one thread.
struct Scratch {
  Aligned<float> joined, x, y, wide, values, projected;

  static float* grow(Aligned<float>& memory, std::size_t size) {
    if (memory.size() < size) memory = Aligned<float>(size);
    return memory.data();
  }
};

Scratch& scratch() {
  thread_local Scratch mine;
  return mine;
}

const Tensor& find(const Parameters& parameters, const std::string& name) {
  const auto it = parameters.find(name);
  if (it == parameters.end()) throw std::invalid_argument("parameter '" + name + "' is missing");
  return it->second;
}

const Tensor& find(const Parameters& parameters, const std::string& name, std::size_t rows, std::size_t columns) {
  const Tensor& tensor = find(parameters, name);
  if (tensor.rows != rows || tensor.columns != columns)
    throw std::invalid_argument("parameter '" + name + "' has shape (" + std::to_string(tensor.rows) + ", " +
                                std::to_string(tensor.columns) + "), must be (" + std::to_string(rows) + ", " +
                                std::to_string(columns) + ")");
  return tensor;
}

// Rows [first, first + rows) of a tensor with the columns padded.
PackedMatrix pack_rows(const Tensor& tensor, std::size_t first, std::size_t rows, Precision precision) {
  const std::size_t columns = round_up(tensor.columns, kColumns);
  std::vector<float> dense(rows * columns);
  for (std::size_t k = 0; k < rows; ++k)
    std::copy_n(tensor.data + (first + k) * tensor.columns, tensor.columns, dense.data() + k * columns);
  return pack(dense, rows, columns, precision);
}

void to_half(float* x, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) x[i] = from_bfloat16(to_bfloat16(x[i]));
}

// table [rows, emb] @ block (rows [first, first + emb) of projection), accumulated in double: [rows, emb_pad].
// `rounded` takes the table in bfloat16.
Aligned<float> fold(const Tensor& table, const Tensor& projection, std::size_t first, std::size_t emb_pad,
                    bool rounded = false) {
  Aligned<float> folded(table.rows * emb_pad);
  std::vector<double> sums(projection.columns);
  for (std::size_t r = 0; r < table.rows; ++r) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::size_t k = 0; k < table.columns; ++k) {
      const float raw = table.data[r * table.columns + k], value = rounded ? from_bfloat16(to_bfloat16(raw)) : raw;
      for (std::size_t n = 0; n < projection.columns; ++n)
        sums[n] += static_cast<double>(value) * projection.data[(first + k) * projection.columns + n];
    }
    for (std::size_t n = 0; n < projection.columns; ++n) folded[r * emb_pad + n] = static_cast<float>(sums[n]);
  }
  return folded;
}

// Rows of a tensor as they are, with the columns padded.
Aligned<float> padded_rows(const Tensor& tensor, std::size_t width) {
  Aligned<float> out(tensor.rows * width);
  for (std::size_t r = 0; r < tensor.rows; ++r)
    std::copy_n(tensor.data + r * tensor.columns, tensor.columns, out.data() + r * width);
  return out;
}

Aligned<float> padded_vector(const Tensor& tensor, std::size_t width) {
  Aligned<float> out(width);
  std::copy_n(tensor.data, tensor.rows * tensor.columns, out.data());
  return out;
}

// Heads of `width` columns each, padded to head_pad.
void place_heads(const Tensor& w, std::size_t heads, const Dimensions& dim, std::size_t columns, std::size_t offset,
                 std::vector<float>& dense) {
  for (std::size_t k = 0; k < dim.emb; ++k)
    for (std::size_t h = 0; h < heads; ++h)
      std::copy_n(w.data + k * w.columns + h * dim.head, dim.head,
                  dense.data() + k * columns + offset + h * dim.head_pad());
}

Layer make_layer(const TowerSpec& spec, const Parameters& parameters, std::size_t index) {
  const Dimensions& dim = spec.dim;
  const std::string at = "transformer/decoder_layer_" + std::to_string(index) + "/";
  const std::string attention = at + "multi_head_attention/";
  Layer layer;
  {
    const std::size_t columns = dim.query_width() + 2 * dim.kv_width();
    std::vector<float> dense(dim.emb * columns);
    place_heads(find(parameters, attention + "query/w", dim.emb, dim.query_heads * dim.head), dim.query_heads, dim,
                columns, 0, dense);
    place_heads(find(parameters, attention + "key/w", dim.emb, dim.kv_heads * dim.head), dim.kv_heads, dim, columns,
                dim.query_width(), dense);
    place_heads(find(parameters, attention + "value/w", dim.emb, dim.kv_heads * dim.head), dim.kv_heads, dim, columns,
                dim.query_width() + dim.kv_width(), dense);
    layer.qkv = pack(dense, dim.emb, columns, spec.precision);
  }
  {
    const Tensor& w = find(parameters, attention + "linear/w", dim.query_heads * dim.head, dim.emb);
    std::vector<float> dense(dim.query_width() * dim.emb_pad());
    for (std::size_t h = 0; h < dim.query_heads; ++h)
      for (std::size_t i = 0; i < dim.head; ++i)
        std::copy_n(w.data + (h * dim.head + i) * dim.emb, dim.emb,
                    dense.data() + (h * dim.head_pad() + i) * dim.emb_pad());
    layer.out = pack(dense, dim.query_width(), dim.emb_pad(), spec.precision);
  }
  {
    const Tensor& gelu = find(parameters, at + "linear/w", dim.emb, dim.ffn);
    const Tensor& gate = find(parameters, at + "linear_v/w", dim.emb, dim.ffn);
    const std::size_t columns = 2 * dim.ffn_pad();
    std::vector<float> dense(dim.emb * columns);
    for (std::size_t k = 0; k < dim.emb; ++k)
      for (std::size_t j = 0; j < dim.ffn; ++j) {
        const std::size_t n = j / kColumns * 2 * kColumns + j % kColumns;
        dense[k * columns + n] = gelu.data[k * dim.ffn + j];
        dense[k * columns + n + kColumns] = gate.data[k * dim.ffn + j];
      }
    layer.gated = pack(dense, dim.emb, columns, spec.precision);
  }
  layer.down = pack_rows(find(parameters, at + "linear_1/w", dim.ffn, dim.emb), 0, dim.ffn, spec.precision);
  const char* const norms[] = {"rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3"};
  for (int i = 0; i < 4; ++i)
    layer.norm[i] = padded_vector(find(parameters, at + norms[i] + "/scale", 1, dim.emb), dim.emb_pad());
  return layer;
}

void unit_length(float* x, std::size_t size, float* length) {
  double squares = 0;
  for (std::size_t i = 0; i < size; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double norm = std::sqrt(std::max(squares, 1e-12));
  for (std::size_t i = 0; i < size; ++i) x[i] = static_cast<float>(x[i] / norm);
  if (length != nullptr) *length = static_cast<float>(norm);
}

// Rows of items and authors side by side, [count, (items + authors) * emb].
void join_rows(const EmbeddingRows& posts, const EmbeddingRows& authors, std::size_t first, std::size_t count,
               const TowerSpec& spec, float* joined) {
  const std::size_t emb = spec.dim.emb, post_width = spec.item_hashes * emb, author_width = spec.author_hashes * emb;
  for (std::size_t i = 0; i < count; ++i, joined += post_width + author_width) {
    posts.copy(first + i, spec.item_hashes, emb, joined);
    authors.copy(first + i, spec.author_hashes, emb, joined + post_width);
  }
}

// bfloat16 mode keeps the projections of gathered rows in float32, as the published model does (PHOENIX §6).
Precision input_precision(Precision precision) {
  return precision == Precision::int8 ? Precision::int8 : Precision::float32;
}

}  // namespace

void EmbeddingRows::copy(std::size_t i, std::size_t hashes, std::size_t emb, float* out) const {
  if (table == nullptr) {
    std::memcpy(out, values + i * hashes * emb, hashes * emb * sizeof(float));
    return;
  }
  for (std::size_t h = 0; h < hashes; ++h, out += emb) {
    const std::int32_t row = index[i * hashes + h];
    if (row == 0)
      std::fill_n(out, emb, 0.0f);
    else
      std::memcpy(out, table + static_cast<std::size_t>(row) * emb, emb * sizeof(float));
  }
}

Tower::Tower(const TowerSpec& spec, const Parameters& parameters, const std::string& prefix, bool with_dwell)
    : spec_(spec), run_(kernels(spec.isa)) {
  const Dimensions& dim = spec.dim;
  stack_.dim = dim;
  stack_.attention_multiplier = spec.attention_multiplier;
  stack_.causal = spec.causal;
  for (std::size_t l = 0; l < dim.layers; ++l) stack_.layers.push_back(make_layer(spec, parameters, l));

  const Precision input = input_precision(spec.precision);
  user_ = pack_rows(find(parameters, prefix + "proj_mat_1", spec.user_hashes * dim.emb, dim.emb), 0,
                    spec.user_hashes * dim.emb, input);
  const std::size_t rows = (spec.item_hashes + spec.author_hashes) * dim.emb;
  const Tensor& projection = find(parameters, prefix + "proj_mat_3", rows + (with_dwell ? 3 : 2) * dim.emb, dim.emb);
  history_ = pack_rows(projection, 0, rows, input);
  // The published model rounds the vectors of actions, surfaces, ages and dwell to bfloat16 before they are projected
  // (PHOENIX §6): in bfloat16 only tables can be folded, a sum of actions and a dwell vector cannot.
  const Tensor& actions = find(parameters, prefix + "action_projection", spec.actions, dim.emb);
  if (rounds()) {
    action_ = padded_rows(actions, dim.emb_pad());
    action_out_ = pack_rows(projection, rows, dim.emb, input);
  } else {
    action_ = fold(actions, projection, rows, dim.emb_pad());
  }
  const Tensor& surfaces = find(parameters, prefix + "product_surface_embedding_table");
  surfaces_ = surfaces.rows;
  surface_ = fold(surfaces, projection, rows + dim.emb, dim.emb_pad(), rounds());
  if (with_dwell) {
    dwell_in_ =
        padded_vector(find(parameters, prefix + "history_dwell_time_proj1", 1, spec.dwell_hidden), spec.dwell_hidden);
    const Tensor& second = find(parameters, prefix + "history_dwell_time_proj2", spec.dwell_hidden, dim.emb);
    if (rounds()) {
      dwell_mid_ = pack_rows(second, 0, spec.dwell_hidden, input);
      dwell_out_ = pack_rows(projection, rows + 2 * dim.emb, dim.emb, input);
    } else {
      const Aligned<float> folded = fold(second, projection, rows + 2 * dim.emb, dim.emb_pad());
      dwell_out_ = pack({folded.data(), folded.data() + folded.size()}, spec.dwell_hidden, dim.emb_pad(), input);
    }
  }

  const std::size_t half = dim.head / 2;
  for (std::size_t i = 0; i < half; ++i)
    frequencies_.push_back(
        static_cast<float>(std::pow(kRopeBase, -static_cast<double>(i) / static_cast<double>(half))));
  std::vector<std::int32_t> positions(kTablePositions);
  for (std::size_t p = 0; p < kTablePositions; ++p) positions[p] = static_cast<std::int32_t>(p);
  rotations(positions.data(), kTablePositions, rotation_table_);
  table_positions_ = kTablePositions;
}

std::size_t Tower::weight_bytes() const {
  std::size_t total = user_.bytes() + history_.bytes() + action_.bytes() + action_out_.bytes() + surface_.bytes() +
                      dwell_mid_.bytes() + dwell_out_.bytes();
  for (const Layer& layer : stack_.layers) {
    total += layer.qkv.bytes() + layer.out.bytes() + layer.gated.bytes() + layer.down.bytes();
    for (const auto& norm : layer.norm) total += norm.bytes();
  }
  return total;
}

std::vector<Rotation> Tower::rotations(const std::int32_t* positions, std::size_t count,
                                       std::vector<float>& angles) const {
  const std::size_t half = spec_.dim.head / 2;
  std::vector<Rotation> out(count);
  std::size_t computed = 0;
  for (std::size_t i = 0; i < count; ++i)
    computed += static_cast<std::size_t>(positions[i]) >= table_positions_ ? 1 : 0;
  angles.resize(computed * 2 * half);
  float* next = angles.data();
  for (std::size_t i = 0; i < count; ++i) {
    const auto position = static_cast<std::size_t>(positions[i]);
    if (position < table_positions_) {
      const float* row = rotation_table_.data() + position * 2 * half;
      out[i] = {row, row + half};
      continue;
    }
    for (std::size_t j = 0; j < half; ++j) {
      // The angle is rounded to float32 as in the definition, its sine is exact.
      const float angle = static_cast<float>(positions[i]) * frequencies_[j];
      next[j] = static_cast<float>(std::cos(static_cast<double>(angle)));
      next[half + j] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
    out[i] = {next, next + half};
    next += 2 * half;
  }
  return out;
}

void Tower::add_table_row(const Aligned<float>& table, std::size_t rows, std::int32_t index, float* x) const {
  if (index < 0 || static_cast<std::size_t>(index) >= rows) return;
  const std::size_t emb = spec_.dim.emb_pad();
  const float* row = table.data() + static_cast<std::size_t>(index) * emb;
  for (std::size_t i = 0; i < emb; ++i) x[i] += row[i];
}

void Tower::history_tokens(const ContextInput& input, std::size_t from, std::size_t count, float* rows) const {
  const Dimensions& dim = spec_.dim;
  const std::size_t emb = dim.emb_pad();
  Scratch& s = scratch();
  float* joined = s.grow(s.joined, count * history_.rows);
  join_rows(input.posts, input.authors, from, count, spec_, joined);
  run_.linear(history_, joined, history_.rows, count, rows, emb, 0);
  float* projected = s.grow(s.projected, count * emb);
  const auto add_projected = [&](const PackedMatrix& w, const float* values, std::size_t width) {
    run_.linear(w, values, width, count, projected, emb, 0);
    for (std::size_t i = 0; i < count * emb; ++i) rows[i] += projected[i];
  };
  float* wide = s.grow(s.wide, count * emb);  // vectors that bfloat16 rounds before their projection
  float* sums = rows;
  if (rounds()) {
    std::fill_n(wide, count * emb, 0.0f);
    sums = wide;
  }
  for (std::size_t t = 0; t < count; ++t) {
    const float* actions = input.actions + (from + t) * spec_.actions;
    float* row = sums + t * emb;
    // Present actions add their row, absent ones subtract it; no action at all adds nothing (PHOENIX §2.2).
    if (std::any_of(actions, actions + spec_.actions, [](float a) { return a != 0; }))
      for (std::size_t a = 0; a < spec_.actions; ++a) {
        const float sign = 2 * actions[a] - 1;
        const float* table = action_.data() + a * emb;
        for (std::size_t i = 0; i < emb; ++i) row[i] += sign * table[i];
      }
    add_table_row(surface_, surfaces_, input.surface[from + t], rows + t * emb);
  }
  if (rounds()) {
    to_half(wide, count * emb);
    add_projected(action_out_, wide, emb);
  }
  if (dwell_in_.size() == 0) return;
  const std::size_t hidden = spec_.dwell_hidden;
  float* values = s.grow(s.values, count * hidden);
  for (std::size_t t = 0; t < count; ++t) {
    const float clipped = std::clamp(input.dwell[from + t], 0.0f, spec_.dwell_scale);
    const float n = spec_.dwell_log ? std::log1p(clipped) / std::log1p(spec_.dwell_scale) : clipped / spec_.dwell_scale;
    for (std::size_t i = 0; i < hidden; ++i) values[t * hidden + i] = n * dwell_in_[i];
  }
  run_.gelu(values, count * hidden);
  if (rounds()) {
    run_.linear(dwell_mid_, values, hidden, count, wide, emb, 0);
    to_half(wide, count * emb);
    add_projected(dwell_out_, wide, emb);
  } else {
    add_projected(dwell_out_, values, hidden);
  }
}

std::vector<Rotation> Tower::tokens(const ContextInput& input, const Workers& workers, Aligned<float>& x,
                                    std::vector<float>& angles) const {
  const Dimensions& dim = spec_.dim;
  const std::size_t emb = dim.emb_pad(), first = input.user_valid ? 1 : 0, count = input.tokens + first;
  x = Aligned<float>(count * emb);
  if (input.user_valid) {
    run_.linear(user_, input.user_embeddings, spec_.user_hashes * dim.emb, 1, x.data(), emb, 0);
    if (input.ip_sum != nullptr)
      for (std::size_t i = 0; i < dim.emb; ++i) x[i] += input.ip_sum[i];
  }
  float* history = x.data() + first * emb;
  const Workers alone;
  const Workers& crew = input.tokens * history_.rows * emb > kShareProjection ? workers : alone;
  const std::size_t tile = even_tile(input.tokens, crew.threads, 1, kScoreTile);
  crew.loop((input.tokens + tile - 1) / tile, [&](std::size_t i) {
    const std::size_t from = i * tile;
    history_tokens(input, from, std::min(tile, input.tokens - from), history + from * emb);
  });
  if (rounds()) to_half(x.data(), count * emb);
  return rotations(input.positions + 1 - first, count, angles);
}

RankerTower::RankerTower(const TowerSpec& spec, const Parameters& parameters)
    : Tower(spec, parameters, "phoenix_model/", true) {
  const Dimensions& dim = spec.dim;
  const std::string prefix = "phoenix_model/";
  const std::size_t rows = (spec.item_hashes + spec.author_hashes) * dim.emb;
  const Tensor& projection = find(parameters, prefix + "proj_mat_2", rows + 2 * dim.emb, dim.emb);
  candidate_ = pack_rows(projection, 0, rows, input_precision(spec.precision));
  candidate_surface_ = fold(find(parameters, prefix + "product_surface_embedding_table", surfaces_, dim.emb),
                            projection, rows, dim.emb_pad(), rounds());
  const Tensor& ages = find(parameters, prefix + "post_age_embedding_table");
  ages_ = ages.rows;
  age_ = fold(ages, projection, rows + dim.emb, dim.emb_pad(), rounds());
  final_norm_ = padded_vector(find(parameters, prefix + "rms_norm/scale", 1, dim.emb), dim.emb_pad());
  // Heads stay float32: they are 2 % of the weights and every probability passes through them.
  logits_ = pack_rows(find(parameters, prefix + "unembeddings", dim.emb, spec.actions), 0, dim.emb, Precision::float32);
  continuous_ = pack_rows(find(parameters, prefix + "continuous_unembeddings", dim.emb, spec.continuous), 0, dim.emb,
                          Precision::float32);
}

std::shared_ptr<ContextCache> RankerTower::encode(const ContextInput& input, const Workers& workers) const {
  auto cache = std::make_shared<ContextCache>(spec_.dim, spec_.kv, input.tokens + (input.user_valid ? 1 : 0));
  encode_into(input, workers, 0, *cache);
  return cache;
}

void RankerTower::encode_into(const ContextInput& input, const Workers& workers, std::size_t known,
                              ContextCache& cache) const {
  Aligned<float> x;
  std::vector<float> angles;
  const std::vector<Rotation> rotation = tokens(input, workers, x, angles);
  cache.tokens = known + rotation.size();
  if (!rotation.empty()) run_.context(stack_, x.data(), rotation.data(), cache, known, false, workers);
}

std::shared_ptr<ContextCache> RankerTower::append(const ContextCache& cache, const ContextInput& input,
                                                  const Workers& workers) const {
  if (!spec_.causal) throw std::invalid_argument("context_attention is 'bidirectional', must be 'causal' to append");
  if (input.user_valid) throw std::invalid_argument("the tokens to append hold a user, must be history only");
  auto grown = cache.grown(input.tokens);
  encode_into(input, workers, cache.tokens, *grown);
  return grown;
}

void RankerTower::score_tile(const ScoreList& list, std::size_t first, std::size_t count) const {
  const CandidateInput& input = list.input;
  const Dimensions& dim = spec_.dim;
  const std::size_t emb = dim.emb_pad();
  std::vector<float> angles;
  Scratch& s = scratch();
  float* joined = s.grow(s.joined, count * candidate_.rows);
  float* x = s.grow(s.x, count * emb);
  float* y = s.grow(s.y, count * emb);
  join_rows(input.posts, input.authors, first, count, spec_, joined);
  run_.linear(candidate_, joined, candidate_.rows, count, x, emb, 0);
  for (std::size_t i = 0; i < count; ++i) {
    add_table_row(candidate_surface_, surfaces_, input.surface[first + i], x + i * emb);
    add_table_row(age_, ages_, input.age_bucket[first + i], x + i * emb);
  }
  if (rounds()) to_half(x, count * emb);
  const std::vector<Rotation> rotation = rotations(input.positions + first, count, angles);
  run_.candidates(stack_, *list.cache, x, rotation.data(), input.valid + first, count);
  run_.rms_norm(x, final_norm_.data(), count, dim.emb, emb, y);
  const auto head = [&](const PackedMatrix& w, std::size_t columns, float* raw, float* squashed) {
    float* wide = s.grow(s.wide, count * w.columns);
    run_.linear(w, y, emb, count, wide, w.columns, 0);
    const auto store = [&](float* out) {
      for (std::size_t i = 0; i < count; ++i) std::copy_n(wide + i * w.columns, columns, out + (first + i) * columns);
    };
    if (raw != nullptr) store(raw);
    run_.sigmoid(wide, count * w.columns);
    store(squashed);
  };
  head(logits_, spec_.actions, list.logits, list.probabilities);
  head(continuous_, spec_.continuous, nullptr, list.continuous);
}

void RankerTower::score(std::span<const ScoreList> lists, const Workers& workers) const {
  std::size_t total = 0;
  for (const ScoreList& list : lists) total += list.input.count;
  const std::size_t tile = even_tile(total, workers.threads, 1, kScoreTile);
  struct Task {
    const ScoreList* list;
    std::size_t first;
  };
  std::vector<Task> tasks;
  for (const ScoreList& list : lists)
    for (std::size_t first = 0; first < list.input.count; first += tile) tasks.push_back({&list, first});
  workers.loop(tasks.size(), [&](std::size_t i) {
    const auto [list, first] = tasks[i];
    score_tile(*list, first, std::min(tile, list->input.count - first));
  });
}

RetrievalTower::RetrievalTower(const TowerSpec& spec, const Parameters& parameters, bool linear_projection)
    : Tower(spec, parameters, "phoenix_retrieval_model/", false), linear_projection_(linear_projection) {
  if (!linear_projection) return;
  const std::string at = "phoenix_retrieval_model/~build_candidate_representation/candidate_tower/";
  const std::size_t rows = (spec.item_hashes + spec.author_hashes) * spec.dim.emb;
  const Tensor& first = find(parameters, at + "candidate_tower_projection_1");
  if (first.rows != rows) find(parameters, at + "candidate_tower_projection_1", rows, first.columns);
  projection_1_ = pack_rows(first, 0, rows, Precision::float32);
  projection_2_ = pack_rows(find(parameters, at + "candidate_tower_projection_2", first.columns, spec.dim.emb), 0,
                            first.columns, Precision::float32);
}

float RetrievalTower::encode(const ContextInput& input, const Workers& workers, float* vector) const {
  const Dimensions& dim = spec_.dim;
  Aligned<float> x;
  std::vector<float> angles;
  const std::vector<Rotation> rotation = tokens(input, workers, x, angles);
  ContextCache cache(dim, spec_.kv, rotation.size());
  if (!rotation.empty()) run_.context(stack_, x.data(), rotation.data(), cache, 0, true, workers);
  std::vector<double> mean(dim.emb);
  for (std::size_t t = 0; t < rotation.size(); ++t)
    for (std::size_t i = 0; i < dim.emb; ++i) mean[i] += x[t * dim.emb_pad() + i];
  for (std::size_t i = 0; i < dim.emb; ++i)
    vector[i] = static_cast<float>(mean[i] / static_cast<double>(std::max<std::size_t>(rotation.size(), 1)));
  float length = 0;
  unit_length(vector, dim.emb, &length);
  return length;
}

void RetrievalTower::encode_candidates(const float* post_embeddings, const float* author_embeddings, std::size_t count,
                                       float* vectors, std::size_t threads) const {
  const Dimensions& dim = spec_.dim;
  const EmbeddingRows posts{post_embeddings}, authors{author_embeddings};
  const std::size_t width = (spec_.item_hashes + spec_.author_hashes) * dim.emb,
                    tiles = (count + kScoreTile - 1) / kScoreTile;
  parallel_for(tiles, threads, [&](std::size_t tile) {
    const std::size_t first = tile * kScoreTile, rows = std::min(kScoreTile, count - first);
    std::vector<float> joined(rows * width);
    join_rows(posts, authors, first, rows, spec_, joined.data());
    if (!linear_projection_) {
      const std::size_t hashes = spec_.item_hashes + spec_.author_hashes;
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t i = 0; i < dim.emb; ++i) {
          float total = 0;
          for (std::size_t h = 0; h < hashes; ++h) total += joined[r * width + h * dim.emb + i];
          vectors[(first + r) * dim.emb + i] = total / static_cast<float>(hashes);
        }
    } else {
      std::vector<float> hidden(rows * projection_1_.columns), out(rows * projection_2_.columns);
      run_.linear(projection_1_, joined.data(), width, rows, hidden.data(), projection_1_.columns, 0);
      run_.silu(hidden.data(), hidden.size());
      run_.linear(projection_2_, hidden.data(), projection_1_.columns, rows, out.data(), projection_2_.columns, 0);
      for (std::size_t r = 0; r < rows; ++r)
        std::copy_n(out.data() + r * projection_2_.columns, dim.emb, vectors + (first + r) * dim.emb);
    }
    for (std::size_t r = 0; r < rows; ++r) unit_length(vectors + (first + r) * dim.emb, dim.emb, nullptr);
  });
}

}  // namespace xfast::phoenix
