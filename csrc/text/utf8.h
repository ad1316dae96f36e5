// UTF-8 in and out. Malformed bytes decode one by one as U+FFFD, so a text from a foreign column can never break a
// scan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace xfast::text {

struct Decoded {
  std::uint32_t code;
  std::uint32_t length;  // bytes taken, >= 1
};

// The code point at text[at]; `at` < `size`.
inline Decoded decode(const std::uint8_t* text, std::size_t size, std::size_t at) {
  constexpr Decoded malformed{0xFFFD, 1};
  const std::uint8_t lead = text[at];
  if (lead < 0x80) return {lead, 1};
  const std::size_t left = size - at;
  const auto tail = [&](std::size_t i) { return (text[at + i] & 0xC0) == 0x80; };
  if (lead < 0xE0) {
    if (lead < 0xC2 || left < 2 || !tail(1)) return malformed;
    return {(lead & 0x1Fu) << 6 | (text[at + 1] & 0x3Fu), 2};
  }
  if (lead < 0xF0) {
    if (left < 3 || !tail(1) || !tail(2)) return malformed;
    const std::uint32_t code = (lead & 0x0Fu) << 12 | (text[at + 1] & 0x3Fu) << 6 | (text[at + 2] & 0x3Fu);
    if (code < 0x800 || (code >= 0xD800 && code < 0xE000)) return malformed;
    return {code, 3};
  }
  if (lead > 0xF4 || left < 4 || !tail(1) || !tail(2) || !tail(3)) return malformed;
  const std::uint32_t code =
      (lead & 0x07u) << 18 | (text[at + 1] & 0x3Fu) << 12 | (text[at + 2] & 0x3Fu) << 6 | (text[at + 3] & 0x3Fu);
  if (code < 0x10000 || code > 0x10FFFF) return malformed;
  return {code, 4};
}

// The code point that ends just before text[at]; `at` > 0.
inline Decoded decode_before(const std::uint8_t* text, std::size_t at) {
  for (std::size_t back = 1; back <= 4 && back <= at; ++back) {
    if ((text[at - back] & 0xC0) == 0x80) continue;
    const Decoded found = decode(text, at, at - back);
    if (found.length == back) return found;
    break;
  }
  return {0xFFFD, 1};
}

inline void append_utf8(std::string& out, std::uint32_t code) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | code >> 6));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | code >> 12));
    out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | code >> 18));
    out.push_back(static_cast<char>(0x80 | (code >> 12 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

}  // namespace xfast::text
