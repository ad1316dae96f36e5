// Many keywords against a column of texts: an Aho-Corasick automaton whose letters are whole tokens.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace xfast::text {

// A keyword found in a text, with the bytes it covers.
struct Match {
  std::uint32_t keyword;
  std::size_t begin;
  std::size_t end;
};

// The tokens of `text`, one string each; a hashtag, mention or cashtag is one token with its sigil in front.
std::vector<std::string> tokens(std::string_view text);

// Immutable after construction; every method may be called from several threads.
class KeywordMatcher {
 public:
  explicit KeywordMatcher(const std::vector<std::string_view>& keywords);

  // Working memory of one thread, reused from text to text.
  struct Scratch;

  std::size_t size() const { return keyword_count_; }
  // How many keywords have a token at all; the others never match.
  std::size_t live() const { return patterns_.size(); }

  bool matches(std::string_view text, Scratch& scratch) const;
  // The lowest index of a keyword in the text, -1 if there is none.
  std::int32_t first(std::string_view text, Scratch& scratch) const;
  // Every occurrence of every keyword, by end, then by keyword.
  std::vector<Match> find(std::string_view text) const;

 private:
  friend struct Collector;

  // A hashtag, mention or cashtag inside a pattern or a text: `length` plain tokens from `start` under one sigil.
  struct Unit {
    std::uint32_t start;
    std::uint32_t length;
    char sigil;
    std::size_t begin;  // byte offset of the sigil
  };

  struct Pattern {
    std::uint32_t keyword;
    std::uint32_t length;     // plain tokens
    std::vector<Unit> units;  // what the text must show at these places
  };

  struct State {
    std::uint32_t fail = 0;
    std::uint32_t output_link = 0;  // the nearest suffix state with an output, 0 if none
    std::vector<std::uint32_t> outputs;
    bool plain = false;       // a pattern without units ends here or at a suffix
    bool with_units = false;  // a pattern with units ends here or at a suffix
  };

  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t symbol = 0;  // 0 = empty
  };

  template <bool kAll>
  struct Scan;

  std::uint32_t intern(std::string_view token);
  std::uint32_t symbol_of(std::string_view token) const;
  std::uint32_t step(std::uint32_t state, std::uint32_t symbol) const;
  std::uint32_t* child(std::uint32_t state, std::uint32_t symbol);
  const std::uint32_t* child(std::uint32_t state, std::uint32_t symbol) const;
  bool holds(const Pattern& pattern, std::uint32_t end, const std::vector<Unit>& units) const;
  void link_states();

  std::size_t keyword_count_;
  std::vector<Pattern> patterns_;
  std::vector<State> states_;
  // Edges of states behind the root, sorted by (state, symbol); the root's are direct.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> edges_;
  std::vector<std::uint32_t> root_;
  // Interned tokens: bit min(length, 63) of lengths_[first byte] says whether such a token is known at all.
  std::array<std::uint64_t, 256> lengths_{};
  std::vector<Slot> slots_;
  std::vector<std::string> names_{std::string()};
};

struct KeywordMatcher::Scratch {
  std::string text;
  std::vector<Unit> units;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pending;  // pattern, index of its last token
  std::vector<std::pair<std::size_t, std::size_t>> spans;        // of plain tokens, when asked for
};

}  // namespace xfast::text
