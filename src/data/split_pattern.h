// A regular expression of a tokenizer file, run by PCRE2 with Unicode properties. Files are written
// for Oniguruma (the `tokenizers` library); where the two read a pattern differently it is
// rewritten, and what cannot be rewritten is refused rather than matched wrongly. std::regex is no
// choice: it recurses for each character and overflows the stack on long runs.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

/// Bytes [begin, end) of some text.
struct ByteRange {
  size_t begin, end;
};

class SplitPattern {
 public:
  enum class Syntax {
    kOniguruma,  ///< as tokenizer files write it
    kPcre,       ///< our own patterns
    kLiteral,    ///< the text itself
  };

  /// Error (input) that begins with `where` when the pattern is not valid or not supported.
  SplitPattern(std::string_view pattern, Syntax syntax, std::string where);

  /// Appends all matches, left to right, not overlapping; empty ones where the `onig` crate reports
  /// them. `text` must be valid UTF-8. Error (input) when a match takes more steps or memory than
  /// any sane pattern needs.
  void find_all(std::string_view text, std::vector<ByteRange>& out) const;

 private:
  std::string where_;
  std::shared_ptr<const void> code_;
  bool has_jit_ = false;
};

/// The Oniguruma pattern in PCRE2's syntax.
std::string to_pcre(std::string_view pattern, std::string_view where);

}  // namespace ft
