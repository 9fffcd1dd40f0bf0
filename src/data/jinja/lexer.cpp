// The lexer follows jinja2's rules one by one; the traps are these. A newline after a block tag or
// a comment is dropped, after {{ }} it is kept. Blanks before a tag are dropped when nothing else
// stands on the line, not before {{. One newline at the end of the template is dropped. Inside
// brackets }} is no end of tag. There is no trimming after {% raw %}, only after {% endraw %}.
#include <algorithm>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/parser.h"
#include "data/utf8.h"

namespace ft::jinja {
namespace {

std::string normal_newlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      out += '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name)
      : text_(normal_newlines(source)), name_(name) {
    if (text_.ends_with('\n')) text_.pop_back();
  }

  std::vector<Token> run() {
    while (at_ < text_.size()) data();
    add(TokenKind::kEnd, "end of template");
    return std::move(tokens_);
  }

 private:
  std::string text_;
  const std::string& name_;
  size_t at_ = 0;
  size_t counted_ = 0;  // newlines before this offset are in line_
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;

  int line() {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(counted_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n'));
    counted_ = at_;
    return line_;
  }
  template <typename... Parts>
  [[noreturn]] void error(const Parts&... parts) {
    fail_input(name_, ":", line(), ": ", parts...);
  }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, line(), std::move(text)}); }
  bool here(std::string_view what) const { return text_.compare(at_, what.size(), what) == 0; }

  void skip_space() {
    while (at_ < text_.size()) {
      size_t next = at_;
      if (!is_space(next_point(text_, next))) return;
      at_ = next;
    }
  }

  /// The text up to the next tag, and the tag. at_ is at the begin of the text.
  void data() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = text_.find('{', tag);
      if (tag == std::string::npos) {
        const std::string rest = text_.substr(at_);
        add(TokenKind::kData, rest);
        at_ = text_.size();
        return;
      }
      const char c = tag + 1 < text_.size() ? text_[tag + 1] : '\0';
      if (c == '{' || c == '%' || c == '#') break;
    }
    const char type = text_[tag + 1];
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
    add_stripped(tag, sign, type != '{');
    at_ = tag + 2 + (sign == '-' || sign == '+');
    line_starting_ = false;
    if (type == '#') return comment();
    if (type == '%' && raw()) return;
    add(type == '{' ? TokenKind::kOutputBegin : TokenKind::kBlockBegin, "");
    while (!(type == '{' ? output_end() : block_end())) token(type);
    add(type == '{' ? TokenKind::kOutputEnd : TokenKind::kBlockEnd, "");
  }

  /// text_[at_, end) as data, without the blanks that the tag behind it takes away.
  void add_stripped(size_t end, char sign, bool lstrip) {
    std::string_view data = std::string_view(text_).substr(at_, end - at_);
    if (sign == '-') {
      data = data.substr(0, strip(data, std::nullopt, 'r').size());
    } else if (sign != '+' && lstrip) {
      const size_t begin = data.rfind('\n') + 1;  // npos + 1 == 0
      const bool blank = strip(data.substr(begin), std::nullopt, 'b').empty();
      if (blank && (begin > 0 || line_starting_)) data = data.substr(0, begin);
    }
    if (!data.empty()) add(TokenKind::kData, std::string(data));
  }

  /// After `%}` or `#}`: what trim_blocks and the sign take. True when the end was here.
  bool end_tag(std::string_view end, bool trim) {
    if (here("-" + std::string(end))) {
      at_ += 1 + end.size();
      skip_space();
    } else if (trim && here("+" + std::string(end))) {
      at_ += 1 + end.size();
    } else if (here(end)) {
      at_ += end.size();
      if (trim && here("\n")) ++at_;
    } else {
      return false;
    }
    line_starting_ = text_[at_ - 1] == '\n';
    return true;
  }

  void comment() {
    const size_t end = text_.find("#}", at_);
    if (end == std::string::npos) error("Missing end of comment tag");
    const bool signed_end = end > at_ && (text_[end - 1] == '-' || text_[end - 1] == '+');
    at_ = end - signed_end;
    end_tag("#}", true);
  }

  /// `raw %}...{% endraw %}` at at_, which follows `{%`.
  bool raw() {
    const size_t begin = at_;
    const auto keyword = [&](std::string_view word) {
      skip_space();
      if (!here(word)) return false;
      at_ += word.size();
      skip_space();
      return true;
    };
    // No newline is trimmed after the opening tag.
    if (!keyword("raw") || !(here("-%}") || here("%}"))) {
      at_ = begin;
      return false;
    }
    end_tag("%}", false);
    const size_t content = at_;
    for (size_t tag = at_;; ++tag) {
      tag = text_.find("{%", tag);
      if (tag == std::string::npos) error("Missing end of raw directive");
      const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
      at_ = tag + 2 + (sign == '-' || sign == '+');
      if (!keyword("endraw") || !(here("+%}") || here("-%}") || here("%}"))) continue;
      const size_t after = at_;
      at_ = content;
      add_stripped(tag, sign, true);
      at_ = after;
      end_tag("%}", true);
      return true;
    }
  }

  std::string brackets_;  // the closing ones that are awaited

  bool output_end() { return brackets_.empty() && end_tag("}}", false); }
  bool block_end() { return brackets_.empty() && end_tag("%}", true); }

  void token(char tag) {
    if (at_ >= text_.size())
      error("the template ends inside a tag, ", tag == '{' ? "}}" : "%}", " is missing");
    const char c = text_[at_];
    size_t next = at_;
    if (is_space(next_point(text_, next))) {
      skip_space();
    } else if (is_digit(c)) {
      number();
    } else if (is_name_start(c)) {
      size_t end = at_;
      while (end < text_.size() && (is_name_start(text_[end]) || is_digit(text_[end]))) ++end;
      add(TokenKind::kName, text_.substr(at_, end - at_));
      at_ = end;
    } else if (c == '"' || c == '\'') {
      string(c);
    } else {
      op();
    }
  }

  size_t digits(size_t at) const {
    while (at < text_.size() && is_digit(text_[at])) ++at;
    return at;
  }

  void number() {
    size_t end = digits(at_);
    bool is_float = false;
    if (!(at_ > 0 && text_[at_ - 1] == '.')) {  // x.0.1 has no float in it
      if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) {
        end = digits(end + 1);
        is_float = true;
      }
      if (end < text_.size() && (text_[end] | 32) == 'e') {
        const bool is_signed =
            end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-');
        const size_t after = digits(end + 1 + is_signed);
        if (after > end + 1 + is_signed) {
          end = after;
          is_float = true;
        }
      }
    }
    if (end < text_.size() && is_name_start(text_[end]))
      error("a number ends with '", printable(text_.substr(end, width(text_[end]))), "'");
    add(is_float ? TokenKind::kFloat : TokenKind::kInteger, text_.substr(at_, end - at_));
    at_ = end;
  }

  void string(char quote) {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) error("a string has no closing ", quote);
    add(TokenKind::kString, unescape(std::string_view(text_).substr(at_ + 1, end - at_ - 1)));
    at_ = end + 1;
  }

  /// Python's escapes; an unknown one stays as it is written.
  std::string unescape(std::string_view raw) {
    std::string out;
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\' || i + 1 == raw.size()) {
        out += raw[i];
        continue;
      }
      const char c = raw[++i];
      static constexpr std::string_view kCodes = "abfnrtv\\'\"", kValues = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t known = kCodes.find(c); known != std::string_view::npos) {
        out += kValues[known];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        i += hex(raw.substr(i + 1), c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
      } else if (c == 'N' || (c >= '0' && c <= '7')) {
        error("\\N{...} and octal escapes are not supported, write \\u");
      } else if (c != '\n') {  // a backslash before the end of a line joins the lines
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  size_t hex(std::string_view raw, size_t count, std::string& out) {
    char32_t point = 0;
    for (size_t i = 0; i < count; ++i) {
      const char c = i < raw.size() ? raw[i] : '\0';
      if (!std::isxdigit(static_cast<unsigned char>(c))) error("a \\x or \\u escape is too short");
      point = point * 16 + static_cast<char32_t>(is_digit(c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
      error("a \\u escape is no Unicode character");
    append_point(out, point);
    return count;
  }

  void op() {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
    std::string found;
    for (const auto two : kTwo)
      if (here(two)) found = two;
    if (found.empty()) {
      if (kOne.find(text_[at_]) == std::string_view::npos)
        error("unexpected char '", printable(text_.substr(at_, width(text_[at_]))), "'");
      found = text_[at_];
    }
    if (found == "{" || found == "(" || found == "[") {
      if (brackets_.size() >= kMaxNesting) error("brackets nested deeper than ", kMaxNesting);
      brackets_ += found == "{" ? '}' : found == "(" ? ')' : ']';
    } else if (found == "}" || found == ")" || found == "]") {
      if (brackets_.empty()) error("unexpected '", found, "'");
      if (brackets_.back() != found[0])
        error("unexpected '", found, "', expected '", brackets_.back(), "'");
      brackets_.pop_back();
    }
    add(TokenKind::kOperator, found);
    at_ += found.size();
  }
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  if (source.size() > kMaxSource)
    fail_input(name, ": a template of more than ", kMaxSource >> 20, " MiB");
  if (valid_utf8_prefix(source) != source.size()) fail_input(name, ": not UTF-8 text");
  return Lexer(source, name).run();
}

}  // namespace ft::jinja
