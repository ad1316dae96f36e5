#include "eventlog/wire.h"

namespace xfast::wire {

std::uint64_t Reader::long_varint(int max_bytes) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 7 * max_bytes; shift += 7) {
    if (at_ == end_) {
      fail(Fault::truncated);
      return 0;
    }
    const std::uint8_t byte = *at_++;
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  fail(Fault::bad_varint);
  return 0;
}

void Reader::skip(std::uint32_t field_type, std::uint32_t field_number, int depth) {
  switch (field_type) {
    case kVarint:
      varint();
      return;
    case kFixed64:
      fixed64();
      return;
    case kBytes:
      bytes();
      return;
    case kFixed32:
      fixed32();
      return;
    case kStartGroup:
      break;
    default:
      fail(Fault::bad_group);
      return;
  }
  if (depth >= kMaxDepth) {
    fail(Fault::bad_group);
    return;
  }
  while (fault_ == Fault::none) {
    if (at_ == end_) {
      fail(Fault::truncated);
      return;
    }
    if (!next()) return;
    if (type == kEndGroup) {
      if (number != field_number) fail(Fault::bad_group);
      return;
    }
    skip(type, number, depth + 1);
  }
}

Fault packed_varints(Bytes bytes, std::vector<std::int64_t>& out) {
  Reader in(bytes);
  // A value ends at a byte without the high bit: room for all of them, no growth on the way.
  std::size_t count = 0;
  for (const std::uint8_t byte : bytes) count += byte < 0x80;
  out.reserve(out.size() + count);
  while (in.at_ != in.end_) {
    const std::uint64_t value = in.varint();
    if (in.fault() != Fault::none) return in.fault();
    out.push_back(static_cast<std::int64_t>(value));
  }
  return Fault::none;
}

}  // namespace xfast::wire
