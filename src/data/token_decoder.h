// The `decoder` of a tokenizer.json: token texts back to text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/split_pattern.h"

namespace ft {

class TokenDecoder {
 public:
  /// null: tokens are joined with spaces. Error (input) that begins with `where` and names a
  /// component that is not known.
  static TokenDecoder parse(const Json& json, const std::string& where);
  /// Letters of GPT-2's alphabet to bytes, broken UTF-8 to U+FFFD.
  static TokenDecoder byte_level();

  /// Valid UTF-8.
  std::string decode(std::vector<std::string> tokens) const;

 private:
  enum class Kind { kByteLevel, kByteFallback, kFuse, kStrip, kReplace, kMetaspace };
  struct Step {
    Kind kind;
    std::string content;  ///< what replaces; the stripped or replaced character
    std::shared_ptr<const SplitPattern> pattern;
    int64_t start = 0, stop = 0;  ///< Strip: at most so many
    bool keeps_first = false;     ///< Metaspace: prepend_scheme never
  };
  std::vector<Step> steps_;  // sequences are written out

  void parse_into(const Json& json, const std::string& where, int depth);
  static void run(const Step& step, size_t limit, std::vector<std::string>& tokens);
};

}  // namespace ft
