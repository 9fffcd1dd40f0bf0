#include "base/error.h"

#include <algorithm>
#include <cstdio>

namespace ft {

void invariant_failed(const char* condition, const char* file, int line) {
  throw Error(Code::kInternal, str(file, ":", line, ": internal check failed: ", condition,
                                   "; this is a fault of finetune, please report it"));
}

namespace {

/// Bytes of the character that begins here, 0 for a control character or what is no UTF-8.
size_t printable_size(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return byte(0) >= 0x20 && byte(0) != 0x7f;
  const size_t size = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i)
    if (byte(i) >> 6 != 2) return 0;
  return byte(0) == 0xc2 && byte(1) < 0xa0 ? 0 : size;  // U+0080 to U+009F control terminals too
}

std::string escaped(std::string_view text, bool keeps_lines) {
  std::string out;
  while (!text.empty()) {
    size_t size = printable_size(text);
    if (keeps_lines && text[0] == '\n') size = 1;
    if (size > 0) {
      out += text.substr(0, size);
    } else {
      char code[5];
      std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned char>(text[0]));
      out += code;
    }
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  return out;
}

}  // namespace

std::string printable(std::string_view text) {
  return escaped(text.substr(0, 200), false) + (text.size() > 200 ? "..." : "");
}

std::string printable_line(std::string_view text) {
  return escaped(text, false);
}

std::string printable_lines(std::string_view text) {
  return escaped(text, true);
}

}  // namespace ft
