// Word boundaries after UAX #29 and the folding of one segment (rules: HOME_MIXER §7.10).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace xfast::text {

struct Segment {
  std::size_t end;  // byte offset just behind the segment
  bool word;        // it holds a letter, a number, an emoji or a flag: it makes a token
};

// The segment that starts at the boundary `begin` of a UTF-8 text; `begin` < `size`.
Segment next_segment(const std::uint8_t* text, std::size_t size, std::size_t begin);

// Append the folded form of text[begin, end) to `out`: case, width and accents folded, invisible characters dropped,
// joiners and tags kept inside emoji only, skin tones dropped. Punctuation at both edges is trimmed when `trim`.
void fold_segment(const std::uint8_t* text, std::size_t begin, std::size_t end, bool trim, std::string& out);

// Where the characters of a hashtag that starts at `begin` end (letters, marks, digits, underscore); `begin` if none.
std::size_t hashtag_end(const std::uint8_t* text, std::size_t size, std::size_t begin);

// Where the path of a URL that starts at `begin` ends; closing punctuation does not belong to it.
std::size_t url_path_end(const std::uint8_t* text, std::size_t size, std::size_t begin);

}  // namespace xfast::text
