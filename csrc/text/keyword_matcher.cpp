#include "text/keyword_matcher.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "text/tokenizer.h"

namespace xfast::text {

namespace {

std::uint32_t hash_bytes(std::string_view token) {
  std::uint64_t hash = 0x9E3779B97F4A7C15ull ^ token.size();
  std::size_t at = 0;
  for (; at + 8 <= token.size(); at += 8) {
    std::uint64_t word;
    std::memcpy(&word, token.data() + at, 8);
    hash = (hash ^ word) * 0xD6E8FEB86659FD93ull;
    hash ^= hash >> 32;
  }
  if (at < token.size()) {
    std::uint64_t word = 0;
    std::memcpy(&word, token.data() + at, token.size() - at);
    hash = (hash ^ word) * 0xD6E8FEB86659FD93ull;
    hash ^= hash >> 32;
  }
  return static_cast<std::uint32_t>(hash * 0xD6E8FEB86659FD93ull >> 32);
}

void lower_ascii(const std::uint8_t* word, std::size_t length, char* out) {
  for (std::size_t i = 0; i < length; ++i) {
    const std::uint8_t c = word[i];
    out[i] = static_cast<char>(c + ((static_cast<std::uint8_t>(c - 'A') < 26) << 5));
  }
}

std::uint64_t length_bit(std::size_t length) { return std::uint64_t{1} << std::min<std::size_t>(length, 63); }

// Plain tokens and units of a keyword.
struct TokenList {
  struct Unit {
    std::uint32_t start, length;
    char sigil;
  };
  std::vector<std::string> plain;
  std::vector<Unit> units;
  char sigil = 0;
  std::uint32_t start = 0;

  bool ascii(const std::uint8_t* word, std::size_t length, std::size_t) {
    std::string& token = plain.emplace_back(length, '\0');
    lower_ascii(word, length, token.data());
    return false;
  }
  bool folded(std::string_view token, std::size_t, std::size_t) {
    plain.emplace_back(token);
    return false;
  }
  void open(char mark, std::size_t) {
    sigil = mark;
    start = static_cast<std::uint32_t>(plain.size());
  }
  void close(std::size_t) {
    const auto length = static_cast<std::uint32_t>(plain.size()) - start;
    if (length > 0) units.push_back({start, length, sigil});
  }
};

}  // namespace

std::vector<std::string> tokens(std::string_view text) {
  TokenList list;
  std::string scratch;
  tokenize(text, scratch, list);
  std::vector<std::string> out;
  auto unit = list.units.begin();
  for (std::uint32_t i = 0; i < list.plain.size();) {
    if (unit != list.units.end() && unit->start == i) {
      std::string whole(1, unit->sigil);
      for (std::uint32_t j = 0; j < unit->length; ++j) whole += list.plain[i + j];
      out.push_back(std::move(whole));
      i += unit->length;
      ++unit;
    } else {
      out.push_back(std::move(list.plain[i++]));
    }
  }
  return out;
}

KeywordMatcher::KeywordMatcher(const std::vector<std::string_view>& keywords) : keyword_count_(keywords.size()) {
  std::vector<TokenList> lists(keywords.size());
  std::size_t token_count = 0;
  std::string scratch;
  for (std::size_t i = 0; i < keywords.size(); ++i) {
    tokenize(keywords[i], scratch, lists[i]);
    token_count += lists[i].plain.size();
  }
  std::size_t capacity = 16;
  while (capacity < 2 * token_count) capacity *= 2;
  slots_.resize(capacity);
  states_.emplace_back();
  root_.push_back(0);
  for (std::size_t i = 0; i < keywords.size(); ++i) {
    const TokenList& list = lists[i];
    if (list.plain.empty()) continue;
    std::uint32_t state = 0;
    for (const std::string& token : list.plain) {
      const std::uint32_t symbol = intern(token);
      std::uint32_t next = 0;
      if (state == 0) {
        if (root_.size() <= symbol) root_.resize(symbol + 1, 0);
        next = root_[symbol];
      } else if (const std::uint32_t* found = child(state, symbol)) {
        next = *found;
      }
      if (next == 0) {
        next = static_cast<std::uint32_t>(states_.size());
        states_.emplace_back();
        if (state == 0) {
          root_[symbol] = next;
        } else {
          const auto key = std::uint64_t{state} << 32 | symbol;
          edges_.insert(std::lower_bound(edges_.begin(), edges_.end(), std::pair{key, 0u}), {key, next});
        }
      }
      state = next;
    }
    Pattern pattern{static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(list.plain.size()), {}};
    for (const auto& unit : list.units) pattern.units.push_back({unit.start, unit.length, unit.sigil, 0});
    states_[state].outputs.push_back(static_cast<std::uint32_t>(patterns_.size()));
    patterns_.push_back(std::move(pattern));
  }
  root_.resize(names_.size(), 0);
  link_states();
}

std::uint32_t KeywordMatcher::intern(std::string_view token) {
  if (const std::uint32_t known = symbol_of(token)) return known;
  const std::uint32_t hash = hash_bytes(token);
  std::size_t at = hash & (slots_.size() - 1);
  while (slots_[at].symbol != 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {hash, static_cast<std::uint32_t>(names_.size())};
  lengths_[static_cast<std::uint8_t>(token[0])] |= length_bit(token.size());
  names_.emplace_back(token);
  return slots_[at].symbol;
}

std::uint32_t KeywordMatcher::symbol_of(std::string_view token) const {
  const std::uint32_t hash = hash_bytes(token);
  for (std::size_t at = hash & (slots_.size() - 1); slots_[at].symbol != 0; at = (at + 1) & (slots_.size() - 1))
    if (slots_[at].hash == hash && names_[slots_[at].symbol] == token) return slots_[at].symbol;
  return 0;
}

const std::uint32_t* KeywordMatcher::child(std::uint32_t state, std::uint32_t symbol) const {
  const auto key = std::uint64_t{state} << 32 | symbol;
  const auto found = std::lower_bound(edges_.begin(), edges_.end(), std::pair{key, 0u});
  return found != edges_.end() && found->first == key ? &found->second : nullptr;
}

std::uint32_t* KeywordMatcher::child(std::uint32_t state, std::uint32_t symbol) {
  return const_cast<std::uint32_t*>(std::as_const(*this).child(state, symbol));
}

std::uint32_t KeywordMatcher::step(std::uint32_t state, std::uint32_t symbol) const {
  while (state != 0) {
    if (const std::uint32_t* next = child(state, symbol)) return *next;
    state = states_[state].fail;
  }
  return root_[symbol];
}

// Failure and output links, breadth first: children are numbered after their parents, but not level by level.
void KeywordMatcher::link_states() {
  std::vector<std::uint32_t> level;
  for (const std::uint32_t state : root_)
    if (state != 0) level.push_back(state);
  std::vector<std::uint32_t> next_level;
  const auto finish = [&](std::uint32_t state) {
    State& here = states_[state];
    const State& suffix = states_[here.fail];
    here.output_link = suffix.outputs.empty() ? suffix.output_link : here.fail;
    here.plain = suffix.plain;
    here.with_units = suffix.with_units;
    for (const std::uint32_t output : here.outputs) {
      (patterns_[output].units.empty() ? here.plain : here.with_units) = true;
    }
  };
  for (const std::uint32_t state : level) finish(state);
  while (!level.empty()) {
    next_level.clear();
    for (const std::uint32_t state : level) {
      const auto begin = std::lower_bound(edges_.begin(), edges_.end(), std::pair{std::uint64_t{state} << 32, 0u});
      for (auto edge = begin; edge != edges_.end() && edge->first >> 32 == state; ++edge) {
        const auto symbol = static_cast<std::uint32_t>(edge->first);
        states_[edge->second].fail = step(states_[state].fail, symbol);
        finish(edge->second);
        next_level.push_back(edge->second);
      }
    }
    level.swap(next_level);
  }
}

// Whether the units that a pattern asks for stand in the text where its last token is token number `end`.
bool KeywordMatcher::holds(const Pattern& pattern, std::uint32_t end, const std::vector<Unit>& units) const {
  const std::uint32_t start = end + 1 - pattern.length;
  for (const Unit& wanted : pattern.units) {
    const auto found = std::lower_bound(units.begin(), units.end(), start + wanted.start,
                                        [](const Unit& unit, std::uint32_t at) { return unit.start < at; });
    if (found == units.end() || found->start != start + wanted.start || found->length != wanted.length ||
        found->sigil != wanted.sigil)
      return false;
  }
  return true;
}

// Runs the automaton along a text. kAll collects every match, otherwise the first certain one ends the scan.
template <bool kAll>
struct KeywordMatcher::Scan {
  const KeywordMatcher& matcher;
  Scratch& scratch;
  std::uint32_t state = 0;
  std::uint32_t count = 0;  // plain tokens so far
  bool found = false;

  bool ascii(const std::uint8_t* word, std::size_t length, std::size_t begin) {
    if constexpr (kAll) scratch.spans.emplace_back(begin, begin + length);
    // Upper case and lower case differ in one bit; digits have it already.
    if ((matcher.lengths_[word[0] | 32] & length_bit(length)) == 0) return unknown();
    char buffer[64];
    if (length <= sizeof buffer) {
      lower_ascii(word, length, buffer);
      return token({buffer, length});
    }
    std::string lower(length, '\0');
    lower_ascii(word, length, lower.data());
    return token(lower);
  }

  bool folded(std::string_view text, std::size_t begin, std::size_t end) {
    if constexpr (kAll) scratch.spans.emplace_back(begin, end);
    if ((matcher.lengths_[static_cast<std::uint8_t>(text[0])] & length_bit(text.size())) == 0) return unknown();
    return token(text);
  }

  bool unknown() {
    state = 0;
    ++count;
    return false;
  }

  bool token(std::string_view text) {
    const std::uint32_t symbol = matcher.symbol_of(text);
    if (symbol == 0) return unknown();
    state = matcher.step(state, symbol);
    const State& here = matcher.states_[state];
    if (kAll || here.with_units) {
      for (std::uint32_t at = here.outputs.empty() ? here.output_link : state; at != 0;
           at = matcher.states_[at].output_link) {
        for (const std::uint32_t output : matcher.states_[at].outputs)
          if (kAll || !matcher.patterns_[output].units.empty()) scratch.pending.emplace_back(output, count);
      }
    }
    ++count;
    found = found || here.plain;
    return !kAll && found;
  }

  void open(char sigil, std::size_t begin) { scratch.units.push_back({count, 0, sigil, begin}); }

  void close(std::size_t) {
    Unit& unit = scratch.units.back();
    unit.length = count - unit.start;
    if (unit.length == 0) scratch.units.pop_back();
  }

  void run(std::string_view text) {
    scratch.units.clear();
    scratch.pending.clear();
    if constexpr (kAll) scratch.spans.clear();
    tokenize(text, scratch.text, *this);
  }
};

bool KeywordMatcher::matches(std::string_view text, Scratch& scratch) const {
  if (patterns_.empty()) return false;
  Scan<false> scan{*this, scratch};
  scan.run(text);
  if (scan.found) return true;
  for (const auto& [pattern, end] : scratch.pending)
    if (holds(patterns_[pattern], end, scratch.units)) return true;
  return false;
}

std::int32_t KeywordMatcher::first(std::string_view text, Scratch& scratch) const {
  Scan<true> scan{*this, scratch};
  if (!patterns_.empty()) scan.run(text);
  std::uint32_t lowest = std::numeric_limits<std::uint32_t>::max();
  if (patterns_.empty()) return -1;
  for (const auto& [pattern, end] : scratch.pending)
    if (patterns_[pattern].keyword < lowest && holds(patterns_[pattern], end, scratch.units))
      lowest = patterns_[pattern].keyword;
  return static_cast<std::int32_t>(lowest);  // the maximum becomes -1
}

std::vector<Match> KeywordMatcher::find(std::string_view text) const {
  std::vector<Match> matches;
  if (patterns_.empty()) return matches;
  Scratch scratch;
  Scan<true> scan{*this, scratch};
  scan.run(text);
  for (const auto& [index, end] : scratch.pending) {
    const Pattern& pattern = patterns_[index];
    if (!holds(pattern, end, scratch.units)) continue;
    const std::uint32_t start = end + 1 - pattern.length;
    Match match{pattern.keyword, scratch.spans[start].first, scratch.spans[end].second};
    if (!pattern.units.empty() && pattern.units[0].start == 0) {
      const auto unit = std::lower_bound(scratch.units.begin(), scratch.units.end(), start,
                                         [](const Unit& each, std::uint32_t at) { return each.start < at; });
      match.begin = unit->begin;
    }
    matches.push_back(match);
  }
  std::sort(matches.begin(), matches.end(),
            [](const Match& a, const Match& b) { return a.end != b.end ? a.end < b.end : a.keyword < b.keyword; });
  return matches;
}

}  // namespace xfast::text
