#include "phoenix/context.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace xfast::phoenix {
namespace {

std::size_t bytes_of(Precision precision) {
  return precision == Precision::float32 ? 4 : precision == Precision::bfloat16 ? 2 : 1;
}

}  // namespace

float int8_scale(float largest) {
  if (!(largest > 1e-30f)) return 0.0f;
  float scale = largest / 127.0f;
  std::uint32_t bits;
  std::memcpy(&bits, &scale, 4);
  bits = (bits + 0xffu) & ~0xffu;
  std::memcpy(&scale, &bits, 4);
  return scale;
}

ContextCache::ContextCache(const Dimensions& dimensions, const KvFormat& kept, std::size_t count, std::size_t room)
    : dim(dimensions),
      format(kept),
      tokens(count),
      capacity(round_up(room, kPanel)),
      own_(memory_bytes(dimensions, kept, room)),
      memory_(own_.data()) {}

ContextCache::ContextCache(const Dimensions& dimensions, const KvFormat& kept, std::size_t count, std::size_t room,
                           void* memory)
    : dim(dimensions),
      format(kept),
      tokens(count),
      capacity(round_up(room, kPanel)),
      memory_(static_cast<char*>(memory)) {}

std::size_t ContextCache::element_bytes() const { return bytes_of(format.storage); }

std::size_t ContextCache::memory_bytes(const Dimensions& dim, const KvFormat& format, std::size_t room) {
  const ContextCache shape(dim, format, 0, room, nullptr);
  const std::size_t scales =
      format.storage == Precision::int8 ? 2 * shape.blocks() * shape.capacity * sizeof(float) : 0;
  return shape.scales_at() + scales;
}

std::shared_ptr<ContextCache> ContextCache::grown(std::size_t more) const {
  auto copy = std::make_shared<ContextCache>(dim, format, tokens + more);
  // A token's place inside its head does not depend on the capacity, so every head is one copy.
  const std::size_t element = element_bytes();
  const auto move = [&](std::size_t b, const char* from, char* to, std::size_t old_size, std::size_t new_size) {
    // copy_n, not memcpy: an empty context has no memory, and memcpy may not be given a null pointer even for nothing.
    std::copy_n(from + b * old_size, std::min(old_size, new_size), to + b * new_size);
  };
  for (std::size_t b = 0; b < blocks(); ++b) {
    move(b, memory_, copy->memory_, keys_per_head() * element, copy->keys_per_head() * element);
    move(b, memory_ + values_at(), copy->memory_ + copy->values_at(), values_per_head() * element,
         copy->values_per_head() * element);
  }
  if (format.storage == Precision::int8)
    for (std::size_t b = 0; b < 2 * blocks(); ++b)
      move(b, memory_ + scales_at(), copy->memory_ + copy->scales_at(), capacity * 4, copy->capacity * 4);
  return copy;
}

void ContextCache::unpack(float* keys_out, float* values_out) const {
  const auto read = [&](const void* at, std::size_t place, float scale) {
    switch (format.storage) {
      case Precision::float32:
        return static_cast<const float*>(at)[place];
      case Precision::bfloat16:
        return from_bfloat16(static_cast<const std::uint16_t*>(at)[place]);
      default:
        return static_cast<float>(static_cast<const std::int8_t*>(at)[place]) * scale;
    }
  };
  const bool scaled = format.storage == Precision::int8;
  for (std::size_t l = 0; l < dim.layers; ++l)
    for (std::size_t h = 0; h < dim.kv_heads; ++h) {
      const char* k = memory_ + block(l, h) * keys_per_head() * element_bytes();
      const char* v = memory_ + values_at() + block(l, h) * values_per_head() * element_bytes();
      for (std::size_t token = 0; token < tokens; ++token) {
        const float key_scale = scaled ? key_scales(l, h)[token] : 0,
                    value_scale = scaled ? value_scales(l, h)[token] : 0;
        for (std::size_t i = 0; i < dim.head; ++i) {
          *keys_out++ = read(k, key_place(token, i), key_scale);
          *values_out++ = read(v, value_place(token, i), value_scale);
        }
      }
    }
}

void ContextCache::pack(const float* keys_in, const float* values_in) {
  const auto largest = [&](const float* vector) {
    float most = 0;
    for (std::size_t i = 0; i < dim.head; ++i) most = std::max(most, std::fabs(vector[i]));
    return most;
  };
  for (std::size_t l = 0; l < dim.layers; ++l)
    for (std::size_t h = 0; h < dim.kv_heads; ++h)
      for (std::size_t token = 0; token < tokens; ++token, keys_in += dim.head, values_in += dim.head) {
        if (format.storage == Precision::int8) {
          const float key_scale = int8_scale(largest(keys_in)), value_scale = int8_scale(largest(values_in));
          key_scales(l, h)[token] = key_scale;
          value_scales(l, h)[token] = value_scale;
          for (std::size_t i = 0; i < dim.head; ++i) {
            const auto byte = [](float x, float scale) {
              return static_cast<std::int8_t>(scale > 0 ? std::lrint(x / scale) : 0);
            };
            keys<std::int8_t>(l, h)[key_place(token, i)] = byte(keys_in[i], key_scale);
            values<std::int8_t>(l, h)[value_place(token, i)] = byte(values_in[i], value_scale);
          }
          continue;
        }
        for (std::size_t i = 0; i < dim.head; ++i)
          if (format.storage == Precision::float32) {
            keys<float>(l, h)[key_place(token, i)] = keys_in[i];
            values<float>(l, h)[value_place(token, i)] = values_in[i];
          } else {
            keys<std::uint16_t>(l, h)[key_place(token, i)] = to_bfloat16(keys_in[i]);
            values<std::uint16_t>(l, h)[value_place(token, i)] = to_bfloat16(values_in[i]);
          }
      }
}

}  // namespace xfast::phoenix
