// The protobuf wire format, read and written without generated classes: varints, tags, length-delimited fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace xfast::wire {

using Bytes = std::basic_string_view<std::uint8_t>;

// One message of a batch; a null pointer is a message without payload.
struct Slice {
  const std::uint8_t* data;
  std::size_t size;
};

// Why a message was refused. The names are part of the Python API (dead letters carry them).
enum class Fault : std::uint8_t {
  none = 0,
  truncated = 1,     // ends inside a field
  bad_varint = 2,    // more than ten bytes, five in a tag or size
  bad_tag = 3,       // field number 0 or beyond 2^29 - 1, or a wire type that does not exist
  bad_group = 4,     // a group that ends without a start, with another number, or nests too deep
  no_variant = 5,    // nothing inside
  missing_field = 6  // a field without which the event has no meaning is absent
};

enum Type : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kStartGroup = 3, kEndGroup = 4, kFixed32 = 5 };

// A cursor over one message. A fault sticks, and everything read after it is zero.
class Reader {
 public:
  Reader(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}
  explicit Reader(Bytes bytes) : Reader(bytes.data(), bytes.size()) {}

  Fault fault() const { return fault_; }

  // Moves to the next field; false at the end of the message or at a fault.
  bool next() {
    if (at_ == end_ || fault_ != Fault::none) return false;
    const std::uint64_t tag = short_varint();
    number = static_cast<std::uint32_t>(tag >> 3);
    type = static_cast<std::uint32_t>(tag & 7);
    if (fault_ == Fault::none && (tag > 0xFFFFFFFFu || number == 0 || type > kFixed32)) fail(Fault::bad_tag);
    return fault_ == Fault::none;
  }

  // A function of its own for the rare long varint keeps the one-byte case inlined.
  std::uint64_t varint() {
    if (at_ < end_ && *at_ < 0x80) return *at_++;
    return long_varint(kMaxVarint);
  }

  std::uint64_t fixed64() { return fixed<std::uint64_t>(); }
  std::uint32_t fixed32() { return fixed<std::uint32_t>(); }

  Bytes bytes() {
    const std::uint64_t size = short_varint();
    if (fault_ == Fault::none && size > static_cast<std::uint64_t>(end_ - at_)) fail(Fault::truncated);
    if (fault_ != Fault::none) return {};
    const Bytes result(at_, static_cast<std::size_t>(size));
    at_ += size;
    return result;
  }

  // Steps over the value of the current field.
  void skip() { skip(type, number, 0); }

  std::uint32_t number = 0;
  std::uint32_t type = 0;

 private:
  static constexpr int kMaxVarint = 10, kMaxShortVarint = 5;
  static constexpr int kMaxDepth = 100;  // what protobuf's own parsers allow

  void fail(Fault fault) {
    if (fault_ == Fault::none) fault_ = fault;
    at_ = end_;
  }

  friend Fault packed_varints(Bytes bytes, std::vector<std::int64_t>& out);

  template <class T>
  T fixed() {
    if (static_cast<std::size_t>(end_ - at_) < sizeof(T)) {
      fail(Fault::truncated);
      return 0;
    }
    T value;
    std::memcpy(&value, at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  // Tags and sizes are 32-bit numbers: protobuf's own parsers take five bytes at most.
  std::uint64_t short_varint() {
    if (at_ < end_ && *at_ < 0x80) return *at_++;
    return long_varint(kMaxShortVarint);
  }
  std::uint64_t long_varint(int max_bytes);
  void skip(std::uint32_t field_type, std::uint32_t field_number, int depth);

  const std::uint8_t* at_;
  const std::uint8_t* end_;
  Fault fault_ = Fault::none;
};

inline std::size_t varint_size(std::uint64_t value) {
  return static_cast<std::size_t>((64 - __builtin_clzll(value | 1) + 6) / 7);
}

// The bytes of a varint field with a number below 16; proto3 leaves out zero.
inline std::size_t field_size(std::int64_t value) {
  return value == 0 ? 0 : 1 + varint_size(static_cast<std::uint64_t>(value));
}

// The values of a packed field, appended to `out`.
Fault packed_varints(Bytes bytes, std::vector<std::int64_t>& out);

// Appends to a buffer that was made large enough: no check per byte.
class Writer {
 public:
  explicit Writer(std::uint8_t* at) : at_(at) {}

  void varint(std::uint64_t value) {
    while (value >= 0x80) {
      *at_++ = static_cast<std::uint8_t>(value | 0x80);
      value >>= 7;
    }
    *at_++ = static_cast<std::uint8_t>(value);
  }
  void tag(std::uint32_t number, Type type) { varint(number << 3 | type); }
  void raw(const void* data, std::size_t size) {
    std::memcpy(at_, data, size);
    at_ += size;
  }
  // A varint field; zero is left out.
  void field(std::uint32_t number, std::int64_t value) {
    if (value == 0) return;
    tag(number, kVarint);
    varint(static_cast<std::uint64_t>(value));
  }
  std::uint8_t* at() const { return at_; }

 private:
  std::uint8_t* at_;
};

}  // namespace xfast::wire
