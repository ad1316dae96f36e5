#include "retrieval/rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

namespace xfast::retrieval {
namespace {

std::size_t width(RowType type) { return type == RowType::float32 ? 4 : type == RowType::int8 ? 1 : 2; }

float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, exponent = (h >> 10) & 31u,
                      mantissa = h & 1023u;
  if (exponent == 0) {  // zero and subnormal numbers: mantissa * 2^-24
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -value : value;
  }
  const std::uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (mantissa << 13);
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace

void read_row(const Rows& rows, std::size_t dim, std::size_t row, float* out) {
  const auto* at = static_cast<const std::uint8_t*>(rows.data) + row * dim * width(rows.type);
  switch (rows.type) {
    case RowType::float32:
      std::memcpy(out, at, dim * 4);  // the mapping may be unaligned
      return;
    case RowType::int8:
      for (std::size_t i = 0; i < dim; ++i)
        out[i] = static_cast<float>(static_cast<std::int8_t>(at[i])) * rows.scale[row];
      return;
    case RowType::float16:
      for (std::size_t i = 0; i < dim; ++i) {
        std::uint16_t raw;
        std::memcpy(&raw, at + 2 * i, 2);
        out[i] = half_to_float(raw);
      }
      return;
    case RowType::bfloat16:
      for (std::size_t i = 0; i < dim; ++i) {
        std::uint16_t raw;
        std::memcpy(&raw, at + 2 * i, 2);
        const std::uint32_t bits = static_cast<std::uint32_t>(raw) << 16;
        std::memcpy(&out[i], &bits, 4);
      }
  }
}

Posts joined(const std::vector<Piece>& pieces, std::size_t dim) {
  struct Store {
    std::vector<std::uint8_t> bytes;
    std::vector<float> scale;
  };
  Posts all;
  if (pieces.empty()) return all;
  std::size_t count = 0;
  all.vectors.type = pieces.front().posts->vectors.type;
  for (const Piece& piece : pieces) {
    if (piece.posts->vectors.type != all.vectors.type) all.vectors.type = RowType::float32;
    all.topics_per_row = std::max(all.topics_per_row, piece.posts->topics_per_row);
    count += piece.posts->vectors.count;
    if (piece.dropped != nullptr)
      count -= static_cast<std::size_t>(
          std::count_if(piece.dropped->begin(), piece.dropped->end(), [](std::uint8_t mark) { return mark != 0; }));
  }
  const RowType type = all.vectors.type;
  const auto store = std::make_shared<Store>();
  store->bytes.resize(count * dim * width(type));
  if (type == RowType::int8) store->scale.reserve(count);
  all.post_ids.reserve(count);
  all.author_ids.reserve(count);
  all.topics.resize(count * all.topics_per_row, 0);
  std::uint8_t* at = store->bytes.data();
  std::vector<float> row(dim);
  for (const Piece& piece : pieces) {
    const Posts& posts = *piece.posts;
    for (std::size_t r = 0; r < posts.vectors.count; ++r) {
      if (piece.dropped != nullptr && (*piece.dropped)[r] != 0) continue;
      if (posts.vectors.type == type) {
        std::memcpy(at, static_cast<const std::uint8_t*>(posts.vectors.data) + r * dim * width(type),
                    dim * width(type));
        if (type == RowType::int8) store->scale.push_back(posts.vectors.scale[r]);
      } else {
        read_row(posts.vectors, dim, r, row.data());
        std::memcpy(at, row.data(), dim * 4);
      }
      at += dim * width(type);
      std::copy_n(posts.topics.begin() + static_cast<std::ptrdiff_t>(r * posts.topics_per_row), posts.topics_per_row,
                  all.topics.begin() + static_cast<std::ptrdiff_t>(all.post_ids.size() * all.topics_per_row));
      all.post_ids.push_back(posts.post_ids[r]);
      all.author_ids.push_back(posts.author_ids[r]);
    }
  }
  all.vectors.data = store->bytes.data();
  all.vectors.count = count;
  all.vectors.scale = store->scale.data();
  all.vectors.owner = store;
  return all;
}

}  // namespace xfast::retrieval
