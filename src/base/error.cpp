#include "base/error.h"

#include <cstdio>

namespace ft {

void invariant_failed(const char* condition, const char* file, int line) {
  throw Error(Code::kInternal, str(file, ":", line, ": internal check failed: ", condition,
                                   "; this is a fault of finetune, please report it"));
}

namespace {

std::string escaped(std::string_view text, bool keeps_lines) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >= 0x20 && byte != 0x7f) || (keeps_lines && c == '\n')) {
      out += c;
    } else {
      char code[5];
      std::snprintf(code, sizeof code, "\\x%02x", byte);
      out += code;
    }
  }
  return out;
}

}  // namespace

std::string printable(std::string_view text) {
  return escaped(text.substr(0, 200), false) + (text.size() > 200 ? "..." : "");
}

std::string printable_lines(std::string_view text) {
  return escaped(text, true);
}

}  // namespace ft
