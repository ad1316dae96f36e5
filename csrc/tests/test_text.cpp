// Memory safety of the tokenizer on malformed and random bytes (run it under XFAST_SANITIZE=address), and the automaton
// on a few texts; the rules are tested from Python.
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/check.h"
#include "text/keyword_matcher.h"
#include "text/segment.h"
#include "text/tokenizer.h"

namespace {

using xfast::text::KeywordMatcher;

// Pieces that reach every branch; cut anywhere, they are malformed UTF-8.
const std::vector<std::string> kPieces = {
    "a",    "Z9",      "_",    " ",    "#",           "@",  "$",    "://",      "http", "https://x.y/z?q#f",
    "www.", "'",       ".",    ",",    "\xC3",        "é",  "\xE3", "が",       "ｶﾞ",   "한",
    "ᄒ",   "ᅡ",       "ᆫ",    "👍🏽", "👩‍👩", "🇩🇪", "🏴",   "\xF0\x9F", "א\"ב", "сло",
    "й",    "и\u0306", "\xFF", "\x80", "ــ",          "＃", "\r\n", "寿司",     "สวั",   "1️⃣"};

void check_random_bytes() {
  std::mt19937_64 rng(11);
  const std::vector<std::string_view> keywords = {"a", "a a", "#a", "寿司", "x.y", "👍", "#a a #a", "한"};
  const KeywordMatcher matcher(keywords);
  KeywordMatcher::Scratch scratch;
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (std::size_t n = rng() % 12; n > 0; --n) text += kPieces[rng() % kPieces.size()];
    if (!text.empty() && rng() % 2 == 0) text.resize(rng() % text.size());
    // A buffer of exactly this size: reading one byte past it is a finding.
    const std::unique_ptr<char[]> exact(new char[text.size()]);
    text.copy(exact.get(), text.size());
    const std::string_view view(exact.get(), text.size());
    std::size_t at = 0;
    while (at < view.size()) {
      const auto next = xfast::text::next_segment(reinterpret_cast<const std::uint8_t*>(view.data()), view.size(), at);
      CHECK(next.end > at && next.end <= view.size());
      at = next.end;
    }
    const auto found = matcher.find(view);
    CHECK_EQ(matcher.matches(view, scratch), !found.empty());
    std::int32_t lowest = -1;
    for (const auto& match : found) {
      CHECK(match.begin < match.end && match.end <= view.size());
      if (lowest < 0 || match.keyword < static_cast<std::uint32_t>(lowest))
        lowest = static_cast<std::int32_t>(match.keyword);
    }
    CHECK_EQ(matcher.first(view, scratch), lowest);
    xfast::text::tokens(view);
  }
}

// Everything that a tokenizer says, in order.
struct Transcript {
  std::string said;
  bool ascii(const std::uint8_t* word, std::size_t length, std::size_t begin) {
    std::string lower(reinterpret_cast<const char*>(word), length);
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    return folded(lower, begin, begin + length);
  }
  bool folded(std::string_view token, std::size_t begin, std::size_t end) {
    said += std::to_string(begin) + "-" + std::to_string(end) + std::string(token) + "|";
    return false;
  }
  void open(char sigil, std::size_t begin) { said += sigil + std::to_string(begin) + "("; }
  void close(std::size_t end) { said += std::to_string(end) + ")"; }
};

// The masks of 64 bytes change nothing: long texts, with every kind of byte on both sides of every boundary.
void check_masks() {
  std::mt19937_64 rng(13);
  const std::string plain = "abcXYZ019 _-!., ";
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    const std::size_t pieces = rng() % 12;
    for (std::size_t n = 0; n < pieces; ++n) {
      for (std::size_t i = rng() % 40; i > 0; --i) text += plain[rng() % plain.size()];
      text += kPieces[rng() % kPieces.size()];
    }
    std::string scratch;
    Transcript fast, slow;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
    xfast::text::Tokenizer<Transcript, true>(bytes, text.size(), scratch, fast).run();
    xfast::text::Tokenizer<Transcript, false>(bytes, text.size(), scratch, slow).run();
    CHECK_EQ(fast.said, slow.said);
  }
}

void check_overlaps() {
  const std::vector<std::string_view> keywords = {"a b c", "b c", "c", "b", "#b c", ""};
  const KeywordMatcher matcher(keywords);
  CHECK_EQ(matcher.size(), 6u);
  CHECK_EQ(matcher.live(), 5u);
  CHECK_EQ(matcher.find("A B C").size(), 4u);
  CHECK_EQ(matcher.find("a #b c").size(), 5u);
  CHECK_EQ(matcher.find("a d").size(), 0u);
}

}  // namespace

int main() {
  check_random_bytes();
  check_masks();
  check_overlaps();
  return check::failures() != 0;
}
