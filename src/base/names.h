// Look-up by name with a suggestion when the name is not there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ft {

/// ` (did you mean "a" or "b"?)` for the candidates nearest to `name`, empty when none is near.
std::string did_you_mean(std::string_view name, const std::vector<std::string_view>& candidates);

/// `a, b, c`
std::string join(const std::vector<std::string_view>& names, std::string_view separator = ", ");

/// The entry of a table (an array of structs with a `name`), or nullptr.
template <typename Table>
auto find(const Table& table, std::string_view name) -> decltype(&*std::begin(table)) {
  for (auto& entry : table)
    if (entry.name == name) return &entry;
  return nullptr;
}

}  // namespace ft
