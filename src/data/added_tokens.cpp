// The search walks the sorted keys: every further byte narrows the range of keys that still fit.
// Most bytes of a text begin no added token and cost one table look-up.
#include "data/added_tokens.h"

#include <algorithm>

#include "data/split_pattern.h"
#include "data/utf8.h"

namespace ft {
namespace {

bool matches(const SplitPattern& one_character, uint32_t point) {
  std::string text;
  append_point(text, point);
  std::vector<ByteRange> found;
  one_character.find_all(text, found);
  return !found.empty();
}

bool is_space(uint32_t point) {
  static const SplitPattern other("\\p{White_Space}", SplitPattern::Syntax::kPcre, "space");
  if (point < 0x80) return point == ' ' || (point >= '\t' && point <= '\r');
  return matches(other, point);
}

bool is_word(uint32_t point) {
  static const SplitPattern other("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]",
                                  SplitPattern::Syntax::kPcre, "word");
  if (point < 0x80)
    return (point >= '0' && point <= '9') || (point >= 'A' && point <= 'Z') ||
           (point >= 'a' && point <= 'z') || point == '_';
  return matches(other, point);
}

/// The start of the character that ends before `end`.
size_t character_before(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && end - at < 4 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) --at;
  return at;
}

bool word_before(std::string_view text, size_t end) {
  if (end == 0) return false;
  const CodePoint point = decode_point(text, character_before(text, end));
  return point.valid && is_word(point.value);
}

bool word_after(std::string_view text, size_t begin) {
  if (begin == text.size()) return false;
  const CodePoint point = decode_point(text, begin);
  return point.valid && is_word(point.value);
}

size_t spaces_before(std::string_view text, size_t end) {
  while (end > 0) {
    const size_t at = character_before(text, end);
    const CodePoint point = decode_point(text, at);
    if (!point.valid || at + point.length != end || !is_space(point.value)) break;
    end = at;
  }
  return end;
}

size_t spaces_after(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const CodePoint point = decode_point(text, begin);
    if (!point.valid || !is_space(point.value)) break;
    begin += point.length;
  }
  return begin;
}

}  // namespace

void AddedTokenMatcher::add(std::string key, const AddedToken& token) {
  if (!key.empty()) entries_.push_back({std::move(key), token});
}

void AddedTokenMatcher::build() {
  const auto by_key = [](const Entry& a, const Entry& b) { return a.key < b.key; };
  std::stable_sort(entries_.begin(), entries_.end(), by_key);
  const auto same = [](const Entry& a, const Entry& b) { return a.key == b.key; };
  entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    Candidates& range = by_byte_[static_cast<uint8_t>(entries_[i].key[0])];
    if (range.begin == range.end) range.begin = i;
    range.end = i + 1;
  }
}

const AddedTokenMatcher::Entry* AddedTokenMatcher::longest_match(std::string_view text, size_t at,
                                                                 const Filter& filter) const {
  auto [begin, end] = by_byte_[static_cast<uint8_t>(text[at])];
  const Entry* found = nullptr;
  for (size_t length = 1; begin < end; ++length) {
    // Of the keys that share `length` bytes with the text the shortest sorts first.
    const Entry& shortest = entries_[begin];
    if (shortest.key.size() == length) {
      if (!filter.forbidden || !filter.forbidden(at, at + length)) found = &shortest;
      ++begin;
    }
    if (at + length >= text.size()) break;
    const auto byte = static_cast<uint8_t>(text[at + length]);
    const auto byte_of = [&](const Entry& e) { return static_cast<uint8_t>(e.key[length]); };
    const auto first = entries_.begin();
    const auto low = std::partition_point(first + begin, first + end,
                                          [&](const Entry& e) { return byte_of(e) < byte; });
    const auto high =
        std::partition_point(low, first + end, [&](const Entry& e) { return byte_of(e) == byte; });
    begin = static_cast<uint32_t>(low - first);
    end = static_cast<uint32_t>(high - first);
  }
  return found;
}

void AddedTokenMatcher::split(std::string_view text, const Filter& filter,
                              std::vector<TextPiece>& out) const {
  size_t done = 0;  // everything before is in `out`
  for (size_t at = 0; at < text.size();) {
    const Candidates& range = by_byte_[static_cast<uint8_t>(text[at])];
    const Entry* entry = range.begin < range.end ? longest_match(text, at, filter) : nullptr;
    if (!entry) {
      ++at;
      continue;
    }
    const AddedToken& token = entry->token;
    size_t begin = at, end = at + entry->key.size();
    at = end;  // a match that is turned down below is skipped as a whole, as in the reference
    if (token.special && !filter.parse_special) continue;
    if (token.single_word && (word_before(text, begin) || word_after(text, end))) continue;
    if (token.lstrip) begin = std::max(spaces_before(text, begin), std::min(done, begin));
    if (token.rstrip) end = spaces_after(text, end);
    if (done < begin) out.push_back({-1, done, begin});
    out.push_back({token.id, begin, end});
    done = end;
  }
  if (done < text.size()) out.push_back({-1, done, text.size()});
}

}  // namespace ft
