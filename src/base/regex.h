// Whole-string regular expression matching (PCRE2) for module patterns. Splitting text into words
// is data/split_pattern's.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace ft {

class Regex {
 public:
  /// Error (usage) naming `where` when the pattern does not compile.
  Regex(const std::string& pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;
  bool matches_whole(std::string_view text) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ft
