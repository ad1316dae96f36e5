// Character tables generated from the Unicode Character Database (generate_tables.py says what they hold and why).
#pragma once

#include <cstddef>
#include <cstdint>

namespace xfast::text {

// Word_Break classes of UAX #29, in the order of the generator.
enum class WordBreak : std::uint8_t {
  other,
  cr,
  lf,
  newline,
  extend,
  zwj,
  format,
  katakana,
  hebrew_letter,
  aletter,
  single_quote,
  double_quote,
  mid_num_let,
  mid_letter,
  mid_num,
  numeric,
  extend_num_let,
  regional_indicator,
  wseg_space,
};

constexpr std::uint8_t kClassMask = 31;
constexpr std::uint8_t kPictographic = 32;
constexpr std::uint8_t kWord = 64;
constexpr std::uint8_t kCjk = 128;

extern const std::uint16_t kPropertyBlocks[];
extern const std::uint8_t kProperties[];
extern const std::uint16_t kFoldBlocks[];
extern const std::uint16_t kFolds[];
extern const std::uint32_t kFoldStarts[];
extern const std::uint8_t kFoldPool[];

// A letter that keeps its mark, for texts that spell it as base and mark.
struct Composition {
  std::uint32_t base;
  std::uint32_t mark;
  std::uint32_t letter;
};
extern const Composition kCompositions[];
extern const std::size_t kCompositionCount;

inline std::uint8_t properties_of(std::uint32_t code) {
  return kProperties[kPropertyBlocks[code >> 7] * 128u + (code & 127u)];
}

inline WordBreak word_break_of(std::uint8_t properties) { return static_cast<WordBreak>(properties & kClassMask); }

// What WB4 skips: it belongs to the character before it.
inline bool is_ignored(WordBreak c) { return c == WordBreak::extend || c == WordBreak::format || c == WordBreak::zwj; }

// 0 when the character stays as it is, else the index of its folding in kFoldStarts.
inline std::uint16_t fold_of(std::uint32_t code) { return kFolds[kFoldBlocks[code >> 7] * 128u + (code & 127u)]; }

}  // namespace xfast::text
