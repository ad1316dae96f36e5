// The tokens of a post, as keywords see them (HOME_MIXER §7.10).
//
// A text is a row of plain tokens: the words of UAX #29, folded. A hashtag, mention or cashtag is a *unit*: a sigil
// over a few plain tokens. A URL gives the words of its host, then its path as one opaque token that begins with '/'.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "text/byte_masks.h"
#include "text/segment.h"
#include "text/unicode_tables.h"
#include "text/utf8.h"

namespace xfast::text {

namespace detail {

// What a byte means where no word is open.
enum Byte : std::uint8_t { kSkip, kWordByte, kMid, kSigil, kWide };

constexpr std::array<std::uint8_t, 256> byte_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (int c = '0'; c <= '9'; ++c) classes[c] = kWordByte;
  for (int c = 'a'; c <= 'z'; ++c) classes[c] = classes[c - 32] = kWordByte;
  classes['_'] = kWordByte;
  for (const char c : {'.', ',', ':', ';', '\''}) classes[static_cast<unsigned char>(c)] = kMid;
  for (const char c : {'#', '@', '$'}) classes[static_cast<unsigned char>(c)] = kSigil;
  for (int c = 128; c < 256; ++c) classes[c] = kWide;
  return classes;
}

inline constexpr std::array<std::uint8_t, 256> kByteClass = byte_classes();

inline bool is_ascii_letter(std::uint8_t c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

// "http" or "https" in any case.
inline bool is_scheme(const std::uint8_t* p, std::size_t length) {
  return (length == 4 || (length == 5 && (p[4] | 32) == 's')) && (p[0] | 32) == 'h' && (p[1] | 32) == 't' &&
         (p[2] | 32) == 't' && (p[3] | 32) == 'p';
}

// A host name written without a scheme: labels with a dot between them, the last of at least two letters.
inline bool is_host(std::string_view token) {
  const std::size_t dot = token.rfind('.');
  if (dot == std::string_view::npos || dot == 0 || token.size() - dot < 3) return false;
  for (const char c : token.substr(dot + 1))
    if (!is_ascii_letter(static_cast<std::uint8_t>(c))) return false;
  return true;
}

}  // namespace detail

// Sink:
//   bool ascii(const uint8_t* word, size_t length, size_t begin)   a token of [A-Za-z0-9_], not yet in lower case
//   bool folded(std::string_view token, size_t begin, size_t end)  any other token
//   void open(char sigil, size_t begin), void close(size_t end)    around the tokens of a unit
// ascii and folded return true to stop. `scratch` is reused between calls.
// kMasks = false takes every byte the scalar way; tests compare the two.
template <class Sink, bool kMasks = true>
class Tokenizer {
 public:
  Tokenizer(const std::uint8_t* text, std::size_t size, std::string& scratch, Sink& sink)
      : text_(text), size_(size), scratch_(scratch), sink_(sink) {}

  void run() {
    using namespace detail;
    while (at_ < size_) {
      if (at_ >= host_end_ && path()) return;
      if (at_ >= size_) return;
#if defined(XFAST_TEXT_BYTE_MASKS)
      if (kMasks && text_[at_] < 0x80 && plain_words()) return;
      if (at_ >= size_ || at_ >= host_end_) continue;
#endif
      switch (kByteClass[text_[at_]]) {
        case kWordByte:
          if (word()) return;
          break;
        case kSigil:
          if (unit(static_cast<char>(text_[at_]), 1)) return;
          break;
        case kWide:
          if (wide()) return;
          break;
        default:
          ++at_;
      }
    }
  }

 private:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

#if defined(XFAST_TEXT_BYTE_MASKS)
  // The ASCII words from here to the next byte that needs care, without a branch per byte; a word that reaches such a
  // byte is left to word().
  bool plain_words() {
    if (at_ - masks_at_ >= 64 || masks_at_ > at_) load_masks();
    while (true) {
      const std::size_t skipped = at_ - masks_at_;
      std::uint64_t word = masks_.word >> skipped;
      const std::uint64_t care = masks_.care >> skipped;
      std::size_t limit = std::min<std::size_t>(64 - skipped, std::countr_zero(care));
      if (host_end_ != kNone) limit = std::min(limit, host_end_ - at_);
      std::size_t done = 0;  // bytes of this view that are dealt with
      while (word != 0) {
        const std::size_t begin = std::countr_zero(word);
        const std::size_t length = std::countr_one(word >> begin);
        if (begin + length >= limit) {
          done = std::min(begin, limit);
          break;
        }
        if (sink_.ascii(text_ + at_ + begin, length, at_ + begin)) return true;
        done = begin + length;
        word &= ~std::uint64_t{0} << done;  // done < limit <= 64
      }
      if (word == 0) done = limit;
      at_ = std::min(at_ + done, size_);
      // Go on where the view ended, not where care is needed or one word fills the view.
      const bool view_ended = limit == 64 - skipped;
      if (!view_ended || at_ >= size_ || (skipped == 0 && done == 0)) return false;
      load_masks();
    }
  }

  void load_masks() {
    masks_at_ = at_;
    masks_ = byte_masks(text_ + at_, size_ - at_);
  }
#endif

  // A word that starts with an ASCII letter, digit or underscore.
  bool word() {
    using namespace detail;
    const std::size_t begin = at_;
    std::size_t end = at_ + 1;
    while (end < size_ && kByteClass[text_[end]] == kWordByte) ++end;
    if (end < size_) {
      const std::uint8_t next = kByteClass[text_[end]];
      if (next == kWide) return segment(begin);
      if (next == kMid && end + 1 < size_) {
        const std::uint8_t after = kByteClass[text_[end + 1]];
        if (after == kWordByte || after == kWide) return segment(begin);
        if (text_[end] == ':' && end + 2 < size_ && text_[end + 1] == '/' && text_[end + 2] == '/' &&
            is_scheme(text_ + begin, end - begin)) {
          at_ = end + 3;
          host_end_ = at_;
          while (host_end_ < size_ && !ends_host(text_[host_end_])) ++host_end_;
          return false;
        }
      }
    }
    at_ = end;
    return ascii(begin, end);
  }

  static bool ends_host(std::uint8_t c) { return c <= ' ' || c == '/' || c == '?' || c == '#' || c == '<' || c == '"'; }

  bool ascii(std::size_t begin, std::size_t end) {
    while (begin < end && text_[begin] == '_') ++begin;
    while (begin < end && text_[end - 1] == '_') --end;
    return begin < end && sink_.ascii(text_ + begin, end - begin, begin);
  }

  // The segment of UAX #29 at `begin`, whatever it is.
  bool segment(std::size_t begin) {
    const Segment found = next_segment(text_, size_, begin);
    at_ = found.end;
    if (!found.word) return false;
    scratch_.clear();
    fold_segment(text_, begin, found.end, true, scratch_);
    std::string_view token = scratch_;
    if (token.empty()) return false;
    if (token.size() > 4 && token.substr(0, 4) == "www.") token.remove_prefix(4);
    if (at_ < size_ && text_[at_] == '/' && host_end_ == kNone && detail::is_host(token)) host_end_ = at_;
    return sink_.folded(token, begin, found.end);
  }

  bool wide() {
    const Decoded here = decode(text_, size_, at_);
    if (here.code == 0xFF03) return unit('#', here.length);
    if (here.code == 0xFF20) return unit('@', here.length);
    return segment(at_);
  }

  // Behind the host of a URL: its path, query and fragment.
  bool path() {
    const bool starts = at_ == host_end_ && (text_[at_] == '/' || text_[at_] == '?' || text_[at_] == '#');
    host_end_ = kNone;
    if (!starts) return false;
    const std::size_t begin = at_ + (text_[at_] == '/' ? 1 : 0);
    const std::size_t end = url_path_end(text_, size_, begin);
    const std::size_t whole = at_;
    at_ = end > at_ ? end : at_ + 1;
    if (end == begin) return false;
    scratch_.assign(1, '/');
    fold_segment(text_, begin, end, false, scratch_);
    return sink_.folded(scratch_, whole, end);
  }

  // A sigil, and if a body follows it, the unit.
  bool unit(char sigil, std::size_t length) {
    const std::size_t begin = at_;
    const std::size_t body = begin + length;
    at_ = body;
    if (host_end_ != kNone || !boundary_before(begin)) return false;
    const std::size_t end = body_end(sigil, body);
    if (end == body) return false;
    sink_.open(sigil, begin);
    std::size_t plain = body;
    while (plain < end && detail::kByteClass[text_[plain]] == detail::kWordByte) ++plain;
    bool stop = false;
    if (plain == end) {
      stop = ascii(body, end);
    } else {
      for (std::size_t at = body; at < end && !stop;) {
        const Segment found = next_segment(text_, end, at);
        if (found.word) {
          scratch_.clear();
          fold_segment(text_, at, found.end, true, scratch_);
          stop = !scratch_.empty() && sink_.folded(scratch_, at, found.end);
        }
        at = found.end;
      }
    }
    at_ = end;
    sink_.close(end);
    return stop;
  }

  // No letter, digit, underscore or '&' stands before a sigil ("a#b", "&#39;" and "me@example.com" hold no unit).
  bool boundary_before(std::size_t at) const {
    std::uint8_t properties = 0;
    do {  // a mark belongs to the letter before it
      if (at == 0) return true;
      const std::uint8_t byte = text_[at - 1];
      if (byte < 0x80) return detail::kByteClass[byte] != detail::kWordByte && byte != '&';
      const Decoded before = decode_before(text_, at);
      properties = properties_of(before.code);
      at -= before.length;
    } while (is_ignored(word_break_of(properties)));
    return (properties & kWord) == 0 || (properties & kPictographic) != 0 ||
           word_break_of(properties) == WordBreak::regional_indicator;
  }

  std::size_t body_end(char sigil, std::size_t body) const {
    if (sigil == '#') return hashtag_end(text_, size_, body);
    std::size_t end = body;
    if (sigil == '$') {  // a letter, then letters and digits; a class such as BRK.B
      if (body >= size_ || !detail::is_ascii_letter(text_[body])) return body;
      while (end < size_ && text_[end] != '_' && detail::kByteClass[text_[end]] == detail::kWordByte) ++end;
      if (end + 1 < size_ && text_[end] == '.' && detail::is_ascii_letter(text_[end + 1]) && !letter_at(end + 2))
        end += 2;
    } else {
      while (end < size_ && detail::kByteClass[text_[end]] == detail::kWordByte) ++end;
    }
    return letter_at(end) ? body : end;
  }

  // Whether the word goes on at `at`; a script without spaces may follow a handle directly.
  bool letter_at(std::size_t at) const {
    if (at >= size_) return false;
    const std::uint8_t properties = properties_of(decode(text_, size_, at).code);
    const WordBreak c = word_break_of(properties);
    return (c == WordBreak::aletter && (properties & kCjk) == 0) || c == WordBreak::hebrew_letter ||
           c == WordBreak::numeric || c == WordBreak::extend || c == WordBreak::extend_num_let;
  }

  const std::uint8_t* text_;
  std::size_t size_;
  std::string& scratch_;
  Sink& sink_;
  std::size_t at_ = 0;
  std::size_t host_end_ = kNone;  // where the host of an open URL ends
#if defined(XFAST_TEXT_BYTE_MASKS)
  ByteMasks masks_;
  std::size_t masks_at_ = kNone;  // what masks_ speak of: 64 bytes from here
#endif
};

template <class Sink>
void tokenize(std::string_view text, std::string& scratch, Sink& sink) {
  Tokenizer<Sink>(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), scratch, sink).run();
}

}  // namespace xfast::text
