// PCRE2 behind SplitPattern. The machine-code matcher (JIT) runs first; when it runs out of its
// small stack the interpreter, whose memory is on the heap and bounded, takes over. Both count
// steps against a limit that grows with the text, so a crafted pattern ends in an error and not in
// a hang.
#include "data/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "base/error.h"
#include "data/utf8.h"

namespace ft {
namespace {

constexpr size_t kMaxPattern = 1 << 16;
constexpr uint32_t kHeapLimitKiB = 256 * 1024;

using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;
using MatchContext = std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)>;

/// What a match writes to. One for each thread: making them costs more than a short match.
struct Workspace {
  MatchData data{pcre2_match_data_create(1, nullptr), pcre2_match_data_free};
  MatchContext context{pcre2_match_context_create(nullptr), pcre2_match_context_free};
};

Workspace& workspace() {
  thread_local Workspace space;
  return space;
}

std::string message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

pcre2_code* compile(std::string_view pattern, uint32_t options, int* error, size_t* at) {
  return pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, error,
                       at, nullptr);
}

/// Whether PCRE2 knows a script of that name.
bool is_script(std::string_view name) {
  const std::string pattern = str("\\p{sc:", name, "}");
  int error = 0;
  size_t at = 0;
  pcre2_code* code = compile(pattern, PCRE2_UTF | PCRE2_UCP, &error, &at);
  pcre2_code_free(code);
  return code != nullptr;
}

/// Walks an Oniguruma pattern and writes what PCRE2 reads the same way:
///   \s \S        White_Space; PCRE2's own also has U+180E
///   \w           Alphabetic, marks, digits, connectors; PCRE2's own lacks most marks
///   \h \uHHHH    hexadecimal digit, code point; PCRE2: horizontal space, unknown
///   \p{Han}      the script; PCRE2 would take the script's extensions
///   \p{Letter}   long names of general categories
///   (?m)         dot matches newline, which is (?s)
/// Nested classes, class intersections and {n}+ mean other things and are refused.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_char(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  std::string_view in_, where_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;

  void copy(size_t n) {
    out_ += in_.substr(at_, n);
    at_ = std::min(at_ + n, in_.size());
  }
  void replace(size_t n, std::string_view by) {
    out_ += by;
    at_ += n;
  }
  char ahead(size_t n) const { return at_ + n < in_.size() ? in_[at_ + n] : '\0'; }
  [[noreturn]] void refuse(std::string_view what) const {
    fail_input(where_, ": ", what, " at byte ", at_, " of the pattern is not supported");
  }
  /// A set written out as members of the class we are in, or as a class.
  void put_set(size_t n, std::string_view members) {
    replace(n, in_class_ ? std::string(members) : str("[", members, "]"));
  }
  void put_negated(size_t n, std::string_view members, std::string_view name) {
    if (in_class_) refuse(str(name, " inside a class"));
    replace(n, str("[^", members, "]"));
  }

  void escape() {
    constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
    constexpr std::string_view kHexDigit = "0-9a-fA-F";
    switch (ahead(1)) {
      case 's':
        return replace(2, "\\p{White_Space}");
      case 'S':
        return replace(2, "\\P{White_Space}");
      case 'w':
        return put_set(2, kWord);
      case 'W':
        return put_negated(2, kWord, "\\W");
      case 'h':
        return put_set(2, kHexDigit);
      case 'H':
        return put_negated(2, kHexDigit, "\\H");
      case 'u': {
        const std::string_view digits = in_.substr(std::min(at_ + 2, in_.size()), 4);
        if (digits.size() < 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos)
          refuse("\\u without four hexadecimal digits");
        return replace(6, str("\\x{", digits, "}"));
      }
      case 'p':
      case 'P':
        return property();
      default:
        copy(1);
        if (at_ < in_.size()) copy(decode_point(in_, at_).length);
    }
  }

  void property() {
    static constexpr std::pair<std::string_view, std::string_view> kLongNames[] = {
        {"Letter", "L"},
        {"Uppercase_Letter", "Lu"},
        {"Lowercase_Letter", "Ll"},
        {"Titlecase_Letter", "Lt"},
        {"Modifier_Letter", "Lm"},
        {"Other_Letter", "Lo"},
        {"Mark", "M"},
        {"Nonspacing_Mark", "Mn"},
        {"Spacing_Mark", "Mc"},
        {"Number", "N"},
        {"Decimal_Number", "Nd"},
        {"Letter_Number", "Nl"},
        {"Other_Number", "No"},
        {"Punctuation", "P"},
        {"Symbol", "S"},
        {"Separator", "Z"},
        {"Space_Separator", "Zs"},
        {"Other", "C"},
        {"Control", "Cc"},
        {"Alpha", "Alphabetic"},
        {"Space", "White_Space"},
    };
    const size_t close = in_.find('}', at_);
    if (ahead(2) != '{' || close == in_.npos) return copy(2);
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    if (name.size() > 64) refuse("a property with so long a name");
    bool negated = ahead(1) == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string known(name);
    for (const auto& [long_name, short_name] : kLongNames)
      if (name == long_name) known = short_name;
    const bool plain = known.find_first_not_of(
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
                           "0123456789&") == known.npos;
    if (!plain) refuse(str("property \"", printable(name), "\""));
    if (known.size() > 2 && known != "Any" && is_script(known)) known = "sc:" + known;
    replace(close + 1 - at_, str(negated ? "\\P{" : "\\p{", known, "}"));
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (at_ < in_.size() && in_[at_] == '^') copy(1);
    if (at_ < in_.size() && in_[at_] == ']') refuse("a class that begins with ]");
  }

  void class_char(char c) {
    if (c == '[' && ahead(1) != ':') refuse("a class inside a class");
    if (c == '[') {
      const size_t close = in_.find(":]", at_);
      if (close == in_.npos) refuse("[: without :]");
      return copy(close + 2 - at_);
    }
    if (c == '&' && ahead(1) == '&') refuse("&& in a class");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    copy(1);
    if (ahead(0) != '?') return;
    copy(1);
    if (ahead(0) == '~') refuse("(?~");
    const size_t end = in_.find_first_not_of("imx-", at_);
    if (end == in_.npos || (in_[end] != ':' && in_[end] != ')')) return;
    for (; at_ < end; ++at_) out_ += in_[at_] == 'm' ? 's' : in_[at_];
  }

  void interval() {
    const size_t close = in_.find_first_not_of("0123456789,", at_ + 1);
    const bool counts = close != in_.npos && in_[close] == '}' && close > at_ + 1;
    if (counts && close + 1 < in_.size() && in_[close + 1] == '+') refuse("{n}+");
    copy(1);
  }
};

}  // namespace

std::string to_pcre(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

SplitPattern::SplitPattern(std::string_view pattern, Syntax syntax, std::string where)
    : where_(std::move(where)) {
  if (pattern.size() > kMaxPattern)
    fail_input(where_, ": the pattern has ", pattern.size(), " bytes, at most ", kMaxPattern,
               " are read");
  const std::string text =
      syntax == Syntax::kOniguruma ? to_pcre(pattern, where_) : std::string(pattern);
  uint32_t options = PCRE2_UTF;
  options |= syntax == Syntax::kLiteral ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  if (syntax == Syntax::kOniguruma) options |= PCRE2_MULTILINE;  // ^ and $ are about lines there
  int error = 0;
  size_t at = 0;
  pcre2_code* code = compile(text, options, &error, &at);
  if (!code)
    fail_input(where_, ": the pattern does not compile: ", printable(message(error)), " (near \"",
               printable(text.substr(std::min(at, text.size()), 20)), "\")");
  code_ = std::shared_ptr<const void>(
      code, [](const void* c) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(c))); });
  has_jit_ = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
}

void SplitPattern::find_all(std::string_view text, std::vector<ByteRange>& out) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  Workspace& space = workspace();
  if (!space.data || !space.context) fail(Code::kRun, where_, ": out of memory");
  const size_t steps = std::min<size_t>(100000 + 20 * text.size(), UINT32_MAX);
  pcre2_set_match_limit(space.context.get(), static_cast<uint32_t>(steps));
  pcre2_set_depth_limit(space.context.get(), static_cast<uint32_t>(steps));
  pcre2_set_heap_limit(space.context.get(), kHeapLimitKiB);

  size_t from = 0;
  size_t last_end = SIZE_MAX;  // of the match before
  bool interpreted = false;
  while (from <= text.size()) {
    const uint32_t checked = PCRE2_NO_UTF_CHECK;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (has_jit_)
      rc = pcre2_jit_match(code, subject, text.size(), from, checked, space.data.get(),
                           space.context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      interpreted = true;
      rc = pcre2_match(code, subject, text.size(), from, checked | PCRE2_NO_JIT, space.data.get(),
                       space.context.get());
    }
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      space.data.reset(pcre2_match_data_create(1, nullptr));
      fail_input(where_, ": the pattern cannot be matched on a text of ", text.size(),
                 " bytes: ", message(rc));
    }
    const size_t* bounds = pcre2_get_ovector_pointer(space.data.get());
    const size_t begin = bounds[0], end = bounds[1];
    if (begin > end) fail_input(where_, ": the pattern sets its end before its start (\\K)");
    if (begin == end && end == last_end) {
      if (from >= text.size()) break;
      from += decode_point(text, from).length;
      continue;
    }
    if (last_end != SIZE_MAX && begin < last_end)
      fail_input(where_, ": the pattern's matches overlap");
    out.push_back({begin, end});
    from = last_end = end;
  }
  // The interpreter keeps its memory in the match data: give it back.
  if (interpreted) space.data.reset(pcre2_match_data_create(1, nullptr));
}

}  // namespace ft
