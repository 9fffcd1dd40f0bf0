#include "base/error.h"

#include <cstdio>

namespace ft {

void invariant_failed(const char* condition, const char* file, int line) {
  throw Error(Code::kInternal, str(file, ":", line, ": internal check failed: ", condition,
                                   "; this is a fault of finetune, please report it"));
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 200)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
    } else {
      char escaped[5];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
      out += escaped;
    }
  }
  if (text.size() > 200) out += "...";
  return out;
}

}  // namespace ft
