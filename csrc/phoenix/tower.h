// The two towers on a CPU, from gathered rows to logits or vectors (spec PHOENIX §2–§5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "phoenix/transformer.h"

namespace xfast::phoenix {

struct Tensor {
  const float* data;
  std::size_t rows, columns;  // a vector has one row
};
using Parameters = std::unordered_map<std::string, Tensor>;  // published names

struct TowerSpec {
  Dimensions dim;
  Isa isa = Isa::scalar;
  float attention_multiplier = 1.0f;
  bool causal = true;
  Precision precision = Precision::float32;
  KvFormat kv;
  std::size_t user_hashes = 0, item_hashes = 0, author_hashes = 0;
  std::size_t actions = 0, continuous = 0, dwell_hidden = 0;  // the last two: ranker only
  float dwell_scale = 30.0f;
  bool dwell_log = false;
};

// Embedding rows of a list of posts or authors, `hashes` for each: side by side already, or numbers of rows of a table
// (perhaps of a mapped file), which are copied when their tile is computed. Row 0 of a table stands for nobody and is
// zero whatever the table holds.
struct EmbeddingRows {
  const float* values = nullptr;        // [n, hashes, emb], without a table; may be unaligned
  const float* table = nullptr;         // [table_rows, emb]
  const std::int32_t* index = nullptr;  // [n, hashes], each in [0, table_rows)

  // Copies entry i to out [hashes * emb].
  void copy(std::size_t i, std::size_t hashes, std::size_t emb, float* out) const;
};

// One viewer: rows of the user and of n valid history tokens.
struct ContextInput {
  std::size_t tokens = 0;  // n
  bool user_valid = false;
  const float* user_embeddings = nullptr;   // [user_hashes, emb]
  EmbeddingRows posts, authors;             // of n tokens
  const std::int32_t* positions = nullptr;  // [1 + n]
  const float* actions = nullptr;           // [n, actions]
  const std::int32_t* surface = nullptr;    // [n]
  const float* dwell = nullptr;             // [n] seconds; ranker only
  const float* ip_sum = nullptr;            // [emb] or null; ranker only
};

struct CandidateInput {
  std::size_t count = 0;
  EmbeddingRows posts, authors;
  const std::uint8_t* valid = nullptr;       // [count]
  const std::int32_t* positions = nullptr;   // [count]
  const std::int32_t* surface = nullptr;     // [count]
  const std::int32_t* age_bucket = nullptr;  // [count]
};

// One viewer's candidates and where their scores go, row-major without padding.
struct ScoreList {
  const ContextCache* cache = nullptr;
  CandidateInput input;
  float* logits = nullptr;         // [count, actions]
  float* probabilities = nullptr;  // [count, actions]
  float* continuous = nullptr;     // [count, continuous]
};

// What both towers share: the user and history projections and the transformer.
class Tower {
 public:
  Tower(const TowerSpec& spec, const Parameters& parameters, const std::string& prefix, bool with_dwell);

  const TowerSpec& spec() const { return spec_; }
  std::size_t weight_bytes() const;

 protected:
  // Token rows [tokens, emb_pad] of the valid tokens, and where each stands.
  std::vector<Rotation> tokens(const ContextInput& input, const Workers& workers, Aligned<float>& x,
                               std::vector<float>& angles) const;
  void history_tokens(const ContextInput& input, std::size_t from, std::size_t count, float* rows) const;
  std::vector<Rotation> rotations(const std::int32_t* positions, std::size_t count, std::vector<float>& angles) const;
  // Whether tokens and what they are made of are rounded to bfloat16.
  bool rounds() const { return spec_.precision == Precision::bfloat16; }
  void add_table_row(const Aligned<float>& table, std::size_t rows, std::int32_t index, float* x) const;

  TowerSpec spec_;
  const Kernels& run_;
  Stack stack_;
  PackedMatrix user_, history_;
  // Small tables already multiplied by their block of the input projection (PHOENIX §9.6), [rows, emb_pad]; in
  // bfloat16 the actions are as they are, and their sum is projected by `action_out_`.
  Aligned<float> action_, surface_;
  PackedMatrix action_out_;
  std::size_t surfaces_ = 0;
  Aligned<float> dwell_in_;
  PackedMatrix dwell_mid_, dwell_out_;  // the first in bfloat16 only; else both in one
  std::vector<float> frequencies_;
  std::vector<float> rotation_table_;  // cos | sin per position of the table
  std::size_t table_positions_ = 0;
};

class RankerTower : public Tower {
 public:
  RankerTower(const TowerSpec& spec, const Parameters& parameters);

  std::shared_ptr<ContextCache> encode(const ContextInput& input, const Workers& workers) const;

  // The same into a cache that has room for the tokens and holds the first `known` of them already (causal only).
  void encode_into(const ContextInput& input, const Workers& workers, std::size_t known, ContextCache& cache) const;

  // The context with the tokens of `input` (which has no user) behind those of `cache`: the bits of a full encode,
  // because causal tokens never see later ones. Refused (std::invalid_argument) where attention is bidirectional.
  std::shared_ptr<ContextCache> append(const ContextCache& cache, const ContextInput& input,
                                       const Workers& workers) const;

  // Scores lists of several viewers; every list's tiles are tasks of one loop.
  void score(std::span<const ScoreList> lists, const Workers& workers) const;

 private:
  void score_tile(const ScoreList& list, std::size_t first, std::size_t count) const;

  PackedMatrix candidate_, logits_, continuous_;
  Aligned<float> candidate_surface_, age_, final_norm_;
  std::size_t ages_ = 0;
};

class RetrievalTower : public Tower {
 public:
  RetrievalTower(const TowerSpec& spec, const Parameters& parameters, bool linear_projection);

  // Unit-length user vector [emb]; returns its length before normalising.
  float encode(const ContextInput& input, const Workers& workers, float* vector) const;

  // Unit-length candidate vectors [count, emb].
  void encode_candidates(const float* post_embeddings, const float* author_embeddings, std::size_t count,
                         float* vectors, std::size_t threads) const;

 private:
  bool linear_projection_;
  PackedMatrix projection_1_, projection_2_;
};

}  // namespace xfast::phoenix
