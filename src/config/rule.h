// What the value of a key may be, as data: a range, the names allowed, what else counts. One row of
// the field table carries one Rule; values.cpp applies it and puts it into words.
#pragma once

#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "finetune/config.h"

namespace ft {

/// What a value has to be, beyond the type of its member. For a map or a list it is about each
/// element.
struct Rule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool above_low = false;   ///< low itself is not allowed
  bool below_high = false;  ///< high itself is not allowed
  /// The only texts allowed, besides those that `also` accepts (`also_text` says in words which).
  std::vector<std::string_view> names = {};
  bool (*also)(std::string_view) = nullptr;
  std::string_view also_text = "";
  /// What stands for an optional without value, or for an empty list; empty: nothing does.
  std::string_view absent = "";
  bool or_one = false;                   ///< a list of one may be written as the text alone
  bool LoraConfig::*was_list = nullptr;  ///< remembers which of the two it was
};

/// Larger counts are slips of the pen, and their products would overflow.
inline constexpr double kMaxCount = 1e9;

inline Rule between(double low, double high) {
  return {.low = low, .high = high};
}
inline Rule count_from(double low) {
  return between(low, kMaxCount);
}
inline Rule count_or_null() {
  return {.low = 1, .high = kMaxCount, .absent = "null"};
}
inline Rule at_least(double low) {
  return {.low = low};
}
inline Rule above(double low) {
  return {.low = low, .above_low = true};
}
inline Rule share() {  // [0, 1)
  return {.low = 0, .high = 1, .below_high = true};
}
inline Rule one_of(std::vector<std::string_view> names) {
  return {.names = std::move(names)};
}
inline Rule or_null() {
  return {.absent = "null"};
}
inline bool is_cuda_index(std::string_view text) {
  if (!text.starts_with("cuda:") || text.size() < 6 || text.size() > 8) return false;
  return text.find_first_not_of("0123456789", 5) == text.npos &&
         (text.size() == 6 || text[5] != '0');
}
inline bool is_file_name(std::string_view text) {
  return text.find_first_of("./") != text.npos;
}

}  // namespace ft
