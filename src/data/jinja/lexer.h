// Template text -> tokens, with jinja2's whitespace rules (trim_blocks, lstrip_blocks, the signs -
// and
// + beside tags).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ft::jinja {

enum class TokenKind : char {
  kData,
  kOutputBegin,
  kOutputEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;  ///< of a string: its value

  bool is(TokenKind k, std::string_view t) const { return kind == k && text == t; }
};

/// Error (input) beginning `name:line: `. The last token is kEnd.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

}  // namespace ft::jinja
