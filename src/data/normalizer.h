// The `normalizer` of a tokenizer.json: what happens to the text before it is split.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/aligned_text.h"
#include "data/split_pattern.h"
#include "data/unicode_form.h"

namespace ft {

class Normalizer {
 public:
  /// null: none. Error (input) that begins with `where` and names a component that is not known.
  static Normalizer parse(const Json& json, const std::string& where);

  bool empty() const { return steps_.empty(); }
  /// `text` must be valid UTF-8.
  AlignedText apply(AlignedText text) const;

 private:
  enum class Kind { kReplace, kPrepend, kStrip, kUnicode };
  struct Step {
    Kind kind;
    std::string content;  ///< what replaces, or what is put in front
    std::shared_ptr<const SplitPattern> pattern;
    bool left = false, right = false;
    UnicodeForm form = UnicodeForm::kNfc;
  };
  std::vector<Step> steps_;  // sequences are written out

  void parse_into(const Json& json, const std::string& where, int depth);
};

/// {"String": text} or {"Regex": pattern}.
std::shared_ptr<const SplitPattern> parse_pattern(const Json* json, const std::string& where);
/// A member that must be there and be a string.
std::string required_string(const Json& json, std::string_view key, const std::string& where);
/// The `type` of a component; Error when it has none.
std::string component_type(const Json& json, const std::string& where);
/// The list of a Sequence component, checked to be one.
const Json::Array& sequence_of(const Json& json, std::string_view key, const std::string& where,
                               int depth);

}  // namespace ft
