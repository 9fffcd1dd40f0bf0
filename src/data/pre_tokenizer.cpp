// Every component of `tokenizers` comes down to two moves on each word: rewrite it (spaces to
// U+2581, a prefix), then cut it at the matches of a pattern. What becomes of a match is the
// `behavior`. Trap: each step sees only its own word, so a look-ahead never reaches into the next
// one.
#include "data/pre_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "data/normalizer.h"
#include "data/utf8.h"

namespace ft {
namespace {

// GPT-2's split: contractions, words, numbers, other runs with one leading space, then spaces, of
// which the last is left to the next word.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kPunctuation = R"([!-/:-@\[-`{-~\p{P}])";
// Rust's \w, which has more than PCRE2's.
constexpr std::string_view kWordsAndRest =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+|)"
    R"([^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\p{White_Space}]+)";

}  // namespace

PreTokenizer PreTokenizer::parse(const Json& json, const std::string& where) {
  PreTokenizer result;
  if (!json.is_null()) result.parse_into(json, where, 0);
  return result;
}

PreTokenizer PreTokenizer::byte_level(std::string_view pattern) {
  PreTokenizer result;
  result.byte_level_ = true;
  result.steps_.push_back(
      {std::make_shared<SplitPattern>(pattern, SplitPattern::Syntax::kOniguruma, "split pattern")});
  return result;
}

void PreTokenizer::add_cut(std::string_view pattern, Behavior behavior, bool invert) {
  Step step;
  step.pattern = std::make_shared<SplitPattern>(pattern, SplitPattern::Syntax::kPcre, "pattern");
  step.behavior = behavior;
  step.invert = invert;
  steps_.push_back(std::move(step));
}

PreTokenizer::Behavior PreTokenizer::parse_behavior(const Json& json, const std::string& where) {
  const std::string name = required_string(json, "behavior", where);
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  fail_input(where, ".behavior: unknown \"", printable(name),
             "\" (Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous)");
}

void PreTokenizer::parse_into(const Json& json, const std::string& where, int depth) {
  const std::string type = component_type(json, where);
  if (byte_level_)
    fail_input(where, ": \"", printable(type), "\" after ByteLevel is not supported");
  if (type == "Sequence") {
    const auto& list = sequence_of(json, "pretokenizers", where, depth);
    for (size_t i = 0; i < list.size(); ++i)
      parse_into(list[i], str(where, ".pretokenizers[", i, "]"), depth + 1);
  } else if (type == "ByteLevel") {
    Step step;
    if (get_bool(json, "add_prefix_space", where).value_or(true)) {
      step.prefix = Prefix::kAlways;
      step.prefix_text = " ";
    }
    if (get_bool(json, "use_regex", where).value_or(true))
      step.pattern = std::make_shared<SplitPattern>(kGpt2Pattern, SplitPattern::Syntax::kOniguruma,
                                                    "ByteLevel");
    byte_level_ = true;
    steps_.push_back(std::move(step));
  } else if (type == "Split") {
    Step step;
    step.pattern = parse_pattern(json.get("pattern"), where);
    step.behavior = parse_behavior(json, where);
    step.invert = get_bool(json, "invert", where).value_or(false);
    steps_.push_back(std::move(step));
  } else if (type == "Digits") {
    const bool single = get_bool(json, "individual_digits", where).value_or(false);
    add_cut("\\p{N}", single ? Behavior::kIsolated : Behavior::kContiguous);
  } else if (type == "Metaspace") {
    parse_metaspace(json, where);
  } else if (type == "Whitespace") {
    add_cut(kWordsAndRest, Behavior::kRemoved, true);
  } else if (type == "WhitespaceSplit") {
    add_cut("\\p{White_Space}", Behavior::kRemoved);
  } else if (type == "Punctuation") {
    add_cut(kPunctuation, json.get("behavior") ? parse_behavior(json, where) : Behavior::kIsolated);
  } else {
    fail_input(where, ": pre-tokenizer \"", printable(type),
               "\" is not supported (Sequence, ByteLevel, Split, Digits, Metaspace, Whitespace, "
               "WhitespaceSplit and Punctuation are)");
  }
}

void PreTokenizer::parse_metaspace(const Json& json, const std::string& where) {
  Step step;
  step.replace_space = get_string(json, "replacement", where).value_or("\xe2\x96\x81");
  const std::string& mark = step.replace_space;
  if (mark.empty() || decode_point(mark, 0).length != mark.size())
    fail_input(where, ".replacement: one character is wanted");
  step.prefix_text = mark;
  const std::string scheme = get_string(json, "prepend_scheme", where).value_or("always");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    fail_input(where, ".prepend_scheme: unknown \"", printable(scheme),
               "\" (always, first or never)");
  // Files from before prepend_scheme say the same with add_prefix_space.
  const bool legacy = get_bool(json, "add_prefix_space", where).value_or(true);
  step.prefix = scheme == "never" || !legacy ? Prefix::kNever
                : scheme == "first"          ? Prefix::kFirst
                                             : Prefix::kAlways;
  if (get_bool(json, "split", where).value_or(true)) {
    step.pattern =
        std::make_shared<SplitPattern>(mark, SplitPattern::Syntax::kLiteral, "Metaspace");
    step.behavior = Behavior::kMergedWithNext;
  }
  steps_.push_back(std::move(step));
}

WordList PreTokenizer::apply(AlignedText text) const {
  WordList list{std::move(text), {}};
  if (list.text.size() > 0) list.words.push_back({0, list.text.size()});
  for (const Step& step : steps_) {
    if (!step.replace_space.empty() || step.prefix != Prefix::kNever) rewrite(step, list);
    if (step.pattern) cut(step, list);
  }
  return list;
}

void PreTokenizer::rewrite(const Step& step, WordList& list) {
  AlignedText text;
  const std::string_view view = list.text.view();
  for (ByteRange& word : list.words) {
    const size_t begin = text.size();
    const uint32_t origin = list.text.origin_begin(word.begin);
    const std::string_view mark = step.prefix_text;
    const bool has_it = view.substr(word.begin, mark.size()) == mark ||
                        (!step.replace_space.empty() && view[word.begin] == ' ');
    const bool wanted =
        step.prefix == Prefix::kAlways || (step.prefix == Prefix::kFirst && origin == 0);
    if (wanted && !has_it) text.append(mark, origin, origin);
    for (size_t at = word.begin; at < word.end;) {
      if (!step.replace_space.empty() && view[at] == ' ') {
        text.append(step.replace_space, list.text.origin_begin(at), list.text.origin_end(at));
        ++at;
        continue;
      }
      size_t end = at + 1;
      while (end < word.end && view[end] != ' ') ++end;
      text.append(list.text, at, end);
      at = end;
    }
    word = {begin, text.size()};
  }
  list.text = std::move(text);
}

void PreTokenizer::cut(const Step& step, WordList& list) {
  const std::string_view view = list.text.view();
  std::vector<ByteRange> found, words;
  words.reserve(list.words.size());
  for (const ByteRange& word : list.words)
    cut_word(step, view.substr(word.begin, word.end - word.begin), word.begin, found, words);
  list.words = std::move(words);
}

void PreTokenizer::cut_word(const Step& step, std::string_view word, size_t base,
                            std::vector<ByteRange>& found, std::vector<ByteRange>& out) {
  found.clear();
  step.pattern->find_all(word, found);
  std::vector<Match> parts;  // matches and what lies between them
  size_t done = 0;
  const auto put = [&](size_t begin, size_t end, bool is_match) {
    if (step.behavior == Behavior::kIsolated) {
      if (begin < end) out.push_back({base + begin, base + end});
    } else {
      parts.push_back({begin, end, is_match != step.invert});
    }
  };
  for (const auto [begin, end] : found) {
    if (done < begin) put(done, begin, false);
    put(begin, end, true);
    done = end;
  }
  if (done < word.size()) put(done, word.size(), false);
  if (step.behavior == Behavior::kIsolated) return;

  // Joins `parts` with neighbours; a removed part becomes empty and falls out at the end.
  const bool backwards = step.behavior == Behavior::kMergedWithNext;
  if (backwards) std::reverse(parts.begin(), parts.end());
  std::vector<Match> joined;
  bool previous = false;
  for (const Match& part : parts) {
    bool join = false;
    if (step.behavior == Behavior::kContiguous) {
      join = part.is_match == previous;
    } else if (step.behavior != Behavior::kRemoved) {
      join = part.is_match && !previous;
    }
    previous = part.is_match;
    if (join && !joined.empty()) {
      joined.back().begin = std::min(joined.back().begin, part.begin);
      joined.back().end = std::max(joined.back().end, part.end);
    } else if (step.behavior != Behavior::kRemoved || !part.is_match) {
      joined.push_back(part);
    }
  }
  if (backwards) std::reverse(joined.begin(), joined.end());
  for (const Match& part : joined)
    if (part.begin < part.end) out.push_back({base + part.begin, base + part.end});
}

}  // namespace ft
