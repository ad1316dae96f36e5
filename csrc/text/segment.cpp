#include "text/segment.h"

#include <string_view>

#include "text/unicode_tables.h"
#include "text/utf8.h"

namespace xfast::text {

namespace {

bool is_letter(WordBreak c) { return c == WordBreak::aletter || c == WordBreak::hebrew_letter; }
bool is_newline(WordBreak c) { return c == WordBreak::cr || c == WordBreak::lf || c == WordBreak::newline; }

// The class of the next character that WB4 does not skip, from `at` on; `newline` at the end of the text.
WordBreak class_ahead(const std::uint8_t* text, std::size_t size, std::size_t at) {
  while (at < size) {
    const Decoded next = decode(text, size, at);
    const WordBreak c = word_break_of(properties_of(next.code));
    if (!is_ignored(c)) return c;
    at += next.length;
  }
  return WordBreak::newline;
}

// The Hangul syllable that `right` makes of `left` (Unicode 3.12: a leading consonant and a vowel, or a syllable
// without a final consonant and one), 0 if none. All of these take three bytes.
std::uint32_t hangul_syllable(std::uint32_t left, std::uint32_t right) {
  if (left - 0x1100u < 19 && right - 0x1161u < 21) return 0xAC00 + ((left - 0x1100) * 21 + (right - 0x1161)) * 28;
  if (left - 0xAC00u < 11172 && (left - 0xAC00) % 28 == 0 && right - 0x11A8u < 27) return left + (right - 0x11A7);
  return 0;
}

bool is_regional_indicator(std::uint32_t code) { return code >= 0x1F1E6 && code <= 0x1F1FF; }

}  // namespace

Segment next_segment(const std::uint8_t* text, std::size_t size, std::size_t begin) {
  Decoded here = decode(text, size, begin);
  std::uint8_t properties = properties_of(here.code);
  WordBreak left = word_break_of(properties);  // the last character that WB4 does not skip
  std::size_t at = begin + here.length;
  Segment segment{at, (properties & kWord) != 0};
  if (left == WordBreak::cr && at < size && text[at] == '\n') ++segment.end;  // WB3
  if (is_newline(left)) return segment;                                       // WB3a

  WordBreak raw = left;  // the last character as it is
  bool open_flag = left == WordBreak::regional_indicator;
  bool bridge = false;  // the last character joined what follows it (WB6, WB7b, WB12 looked ahead already)
  while (at < size) {
    here = decode(text, size, at);
    properties = properties_of(here.code);
    const WordBreak right = word_break_of(properties);
    bool join = false;
    if (is_newline(right)) break;  // WB3b
    if (is_ignored(right)) {       // WB4
      raw = right;
      at += here.length;
      segment.end = at;
      continue;
    }
    bool next_bridge = false;
    const auto ahead = [&] { return class_ahead(text, size, at + here.length); };
    if (bridge) {
      join = true;
    } else if (raw == WordBreak::zwj && (properties & kPictographic) != 0) {  // WB3c
      join = true;
    } else if (raw == WordBreak::wseg_space && right == WordBreak::wseg_space) {  // WB3d
      join = true;
    } else if (is_letter(left)) {
      switch (right) {
        case WordBreak::aletter:
        case WordBreak::hebrew_letter:   // WB5
        case WordBreak::numeric:         // WB9
        case WordBreak::extend_num_let:  // WB13a
          join = true;
          break;
        case WordBreak::mid_letter:
        case WordBreak::mid_num_let:
        case WordBreak::single_quote:  // WB6, WB7, WB7a
          next_bridge = is_letter(ahead());
          join = next_bridge || (left == WordBreak::hebrew_letter && right == WordBreak::single_quote);
          break;
        case WordBreak::double_quote:  // WB7b, WB7c
          join = next_bridge = left == WordBreak::hebrew_letter && ahead() == WordBreak::hebrew_letter;
          break;
        default:
          break;
      }
    } else if (left == WordBreak::numeric) {
      if (right == WordBreak::numeric || is_letter(right) || right == WordBreak::extend_num_let) {  // WB8, WB10, WB13a
        join = true;
      } else if (right == WordBreak::mid_num || right == WordBreak::mid_num_let || right == WordBreak::single_quote) {
        join = next_bridge = ahead() == WordBreak::numeric;  // WB11, WB12
      }
    } else if (left == WordBreak::katakana) {  // WB13, WB13a
      join = right == WordBreak::katakana || right == WordBreak::extend_num_let;
    } else if (left == WordBreak::extend_num_let) {  // WB13a, WB13b
      join = right == WordBreak::extend_num_let || is_letter(right) || right == WordBreak::numeric ||
             right == WordBreak::katakana;
    } else if (left == WordBreak::regional_indicator) {  // WB15, WB16
      join = open_flag && right == WordBreak::regional_indicator;
      if (join) {
        open_flag = false;
        left = raw = right;
        at += here.length;
        segment.end = at;
        continue;
      }
    }
    if (!join) break;  // WB999
    bridge = next_bridge;
    open_flag = right == WordBreak::regional_indicator;
    left = raw = right;
    at += here.length;
    segment.end = at;
    segment.word = segment.word || (properties & kWord) != 0;
  }
  return segment;
}

void fold_segment(const std::uint8_t* text, std::size_t begin, std::size_t end, bool trim, std::string& out) {
  const std::size_t start = out.size();
  std::uint32_t last = 0;        // what stands at the end of `out`, for compositions
  bool emoji = false;            // inside an emoji: joiners and tags mean something
  bool joiner = false;           // a joiner that is kept if a pictograph follows
  std::size_t word_end = start;  // end of the last character that is no edge punctuation
  for (std::size_t at = begin; at < end;) {
    const Decoded here = decode(text, end, at);
    at += here.length;
    const std::uint32_t code = here.code;
    if (code < 0x80) {
      const bool letter = (code | 32) >= 'a' && (code | 32) <= 'z';
      const bool inner = letter || (code >= '0' && code <= '9');
      if (trim && !inner && out.size() == start) continue;
      last = letter ? code | 32 : code;
      out.push_back(static_cast<char>(last));
      if (inner) word_end = out.size();
      emoji = joiner = false;
      continue;
    }
    const std::uint8_t properties = properties_of(code);
    if (emoji) {
      if (code == 0x200D) {
        joiner = true;
        continue;
      }
      if (code >= 0x1F3FB && code <= 0x1F3FF) continue;  // skin tone: folded like an accent
      if (code >= 0xE0020 && code <= 0xE007F) {          // the letters of a flag such as Scotland's
        append_utf8(out, code);
        word_end = out.size();
        continue;
      }
    }
    const std::uint16_t fold = fold_of(code);
    const std::uint8_t* folded = kFoldPool + kFoldStarts[fold];
    if (fold != 0 && *folded == 0) {
      for (std::size_t i = 0; i < kCompositionCount; ++i) {
        if (kCompositions[i].base != last || kCompositions[i].mark != code) continue;
        out.resize(out.size() - (last < 0x800 ? 2 : 3));
        last = kCompositions[i].letter;
        append_utf8(out, last);
        word_end = out.size();
        break;
      }
      continue;
    }
    const bool pictograph = (properties & kPictographic) != 0 || is_regional_indicator(code);
    if (joiner && pictograph) append_utf8(out, 0x200D);
    joiner = false;
    emoji = pictograph;
    const WordBreak c = word_break_of(properties);
    const bool inner = (properties & kWord) != 0 || (c == WordBreak::extend && out.size() > start);
    if (trim && !inner && out.size() == start) continue;
    const std::uint32_t end_code = fold == 0 ? code : decode_before(folded + 1, *folded).code;
    if (const std::uint32_t syllable = hangul_syllable(last, end_code)) {
      out.resize(out.size() - 3);
      append_utf8(out, syllable);
      last = syllable;
    } else {
      if (fold == 0) {
        append_utf8(out, code);
      } else {
        out.append(reinterpret_cast<const char*>(folded + 1), *folded);
      }
      last = end_code;
    }
    if (inner) word_end = out.size();
  }
  if (trim) out.resize(word_end);
}

std::size_t hashtag_end(const std::uint8_t* text, std::size_t size, std::size_t begin) {
  std::size_t at = begin;
  while (at < size) {
    const Decoded here = decode(text, size, at);
    const std::uint8_t properties = properties_of(here.code);
    const WordBreak c = word_break_of(properties);
    const bool letter =
        (properties & kWord) != 0 && (properties & kPictographic) == 0 && !is_regional_indicator(here.code);
    const bool follows = is_ignored(c) || here.code == 0xB7;
    if (!letter && here.code != '_' && !(follows && at > begin)) break;
    at += here.length;
  }
  return at;
}

std::size_t url_path_end(const std::uint8_t* text, std::size_t size, std::size_t begin) {
  std::size_t at = begin;
  std::size_t kept = begin;
  while (at < size) {
    const Decoded here = decode(text, size, at);
    if (here.code <= ' ' || here.code == 0x7F || here.code == '<' || here.code == '>' || here.code == '"') break;
    if (here.code >= 0x80) {
      const std::uint8_t properties = properties_of(here.code);
      const WordBreak c = word_break_of(properties);
      const bool letter = (properties & (kWord | kCjk | kPictographic)) == kWord && !is_regional_indicator(here.code);
      if (!letter && !is_ignored(c)) break;
    }
    at += here.length;
    constexpr std::string_view closing = ".,;:!?'()[]{}*";
    if (here.code >= 0x80 || closing.find(static_cast<char>(here.code)) == std::string_view::npos) kept = at;
  }
  return kept;
}

}  // namespace xfast::text
