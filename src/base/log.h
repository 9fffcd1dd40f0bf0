// Leveled text lines on stderr (spdlog behind it). stdout belongs to results.
#pragma once

#include <string>

#include "base/error.h"

namespace ft {

void log_line(int level, const std::string& text);  // 0 info, 1 warning

template <typename... Parts>
void log_info(const Parts&... parts) {
  log_line(0, str(parts...));
}
template <typename... Parts>
void log_warning(const Parts&... parts) {
  log_line(1, str(parts...));
}

/// Drops info lines (`--quiet`).
void set_quiet(bool quiet);

}  // namespace ft
