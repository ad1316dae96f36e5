#include "eventlog/frames.h"

#include <cstring>

#include "common/crc32c.h"

namespace xfast::eventlog {
namespace {

struct Header {
  std::uint32_t crc, size;
  std::uint64_t offset;
  std::int64_t time_ms;
};
static_assert(sizeof(Header) == kFrameHeader);

Header read_header(const std::uint8_t* at) {
  Header header;
  std::memcpy(&header, at, sizeof(header));
  return header;
}

std::uint32_t checksum(const std::uint8_t* record, std::size_t payload) {
  return crc32c(0, record + sizeof(std::uint32_t), kFrameHeader - sizeof(std::uint32_t) + payload);
}

}  // namespace

std::vector<std::uint8_t> frame(std::span<const wire::Slice> messages, std::uint64_t first_offset,
                                std::int64_t time_ms) {
  std::size_t total = 0;
  for (const auto& message : messages) total += kFrameHeader + message.size;
  std::vector<std::uint8_t> out(total);
  std::uint8_t* at = out.data();
  for (const auto& message : messages) {
    Header header{0, static_cast<std::uint32_t>(message.size), first_offset++, time_ms};
    std::memcpy(at, &header, kFrameHeader);
    if (message.size > 0) std::memcpy(at + kFrameHeader, message.data, message.size);
    header.crc = checksum(at, message.size);
    std::memcpy(at, &header.crc, sizeof(header.crc));
    at += kFrameHeader + message.size;
  }
  return out;
}

Frames scan(const std::uint8_t* data, std::size_t size, std::size_t limit, std::size_t max_size) {
  Frames out;
  while (out.starts.size() < limit && size - out.used >= kFrameHeader) {
    const std::uint8_t* at = data + out.used;
    const Header header = read_header(at);
    if (header.size > max_size) {
      out.damaged = true;
      break;
    }
    if (size - out.used - kFrameHeader < header.size) break;
    if (checksum(at, header.size) != header.crc) {
      out.damaged = true;
      break;
    }
    out.starts.push_back(static_cast<std::int64_t>(out.used + kFrameHeader));
    out.sizes.push_back(header.size);
    out.offsets.push_back(static_cast<std::int64_t>(header.offset));
    out.times_ms.push_back(header.time_ms);
    out.used += kFrameHeader + header.size;
  }
  return out;
}

std::size_t find_record(const std::uint8_t* data, std::size_t size, std::size_t from, std::uint64_t min_offset,
                        std::size_t max_size) {
  constexpr std::uint64_t kSpan = 1u << 28;
  for (; from + kFrameHeader <= size; ++from) {
    const Header header = read_header(data + from);
    if (header.offset >= min_offset && header.offset - min_offset < kSpan && header.size <= max_size &&
        size - from - kFrameHeader >= header.size && checksum(data + from, header.size) == header.crc)
      return from;
  }
  return size;
}

}  // namespace xfast::eventlog
