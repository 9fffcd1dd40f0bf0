// Errors and message building. fail(): the user or a file is wrong. invariant(): we are wrong.
#pragma once

#include <sstream>
#include <string>
#include <string_view>

#include "finetune/error.h"

namespace ft {

/// All arguments written one after another, as operator<< writes them.
template <typename... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <typename... Parts>
[[noreturn]] void fail(Code code, const Parts&... parts) {
  throw Error(code, str(parts...));
}
template <typename... Parts>
[[noreturn]] void fail_usage(const Parts&... parts) {
  fail(Code::kUsage, parts...);
}
template <typename... Parts>
[[noreturn]] void fail_input(const Parts&... parts) {
  fail(Code::kInput, parts...);
}

[[noreturn]] void invariant_failed(const char* condition, const char* file, int line);

/// A string of a file made safe to print: control bytes escaped, at most 200 characters.
std::string printable(std::string_view text);
/// The same at any length.
std::string printable_line(std::string_view text);
/// The same for lines that are about to be printed: at any length, and the ends of lines stay.
std::string printable_lines(std::string_view text);

}  // namespace ft

/// Stays on in release builds; user input never reaches one.
#define FT_INVARIANT(condition) \
  ((condition) ? void(0) : ::ft::invariant_failed(#condition, __FILE__, __LINE__))
