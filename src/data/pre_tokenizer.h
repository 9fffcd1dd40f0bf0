// The `pre_tokenizer` of a tokenizer.json: cuts text into words, which BPE then encodes one by one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/aligned_text.h"
#include "data/split_pattern.h"

namespace ft {

/// A text and the words it was cut into, in order. Parts that were removed are in no word.
struct WordList {
  AlignedText text;
  std::vector<ByteRange> words;
};

class PreTokenizer {
 public:
  /// null: none, the text is one word. Error (input) that begins with `where` and names a component
  /// that is not known.
  static PreTokenizer parse(const Json& json, const std::string& where);
  /// Cuts at the matches of a pattern and reads words as bytes: what tiktoken does.
  static PreTokenizer byte_level(std::string_view pattern);

  /// Whether words are encoded byte by byte in GPT-2's alphabet (a ByteLevel step).
  bool is_byte_level() const { return byte_level_; }
  /// `text` must be valid UTF-8.
  WordList apply(AlignedText text) const;

 private:
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prefix { kNever, kFirst, kAlways };
  struct Step {
    std::shared_ptr<const SplitPattern> pattern;  ///< null: no cut
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
    std::string replace_space{};  ///< Metaspace: what a space becomes
    Prefix prefix = Prefix::kNever;
    std::string prefix_text{};
  };
  struct Match {
    size_t begin, end;
    bool is_match;
  };
  std::vector<Step> steps_;  // sequences are written out
  bool byte_level_ = false;

  void parse_into(const Json& json, const std::string& where, int depth);
  void parse_metaspace(const Json& json, const std::string& where);
  void add_cut(std::string_view pattern, Behavior behavior, bool invert = false);
  static Behavior parse_behavior(const Json& json, const std::string& where);
  static void rewrite(const Step& step, WordList& list);
  static void cut(const Step& step, WordList& list);
  static void cut_word(const Step& step, std::string_view word, size_t base,
                       std::vector<ByteRange>& found, std::vector<ByteRange>& out);
};

}  // namespace ft
