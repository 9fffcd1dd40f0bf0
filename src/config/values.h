// One value of the configuration: YAML node -> typed member, typed member -> YAML text, and the
// words for what is wanted. An overload for each member type of config.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "config/rule.h"
#include "config/yaml.h"

namespace ft {

/// Sets `value` from a node. Returns what is wrong with it ("" when nothing is); `value` is then as
/// it was.
std::string read_value(const YamlNode& node, const Rule& rule, bool& value);
std::string read_value(const YamlNode& node, const Rule& rule, int64_t& value);
std::string read_value(const YamlNode& node, const Rule& rule, double& value);
std::string read_value(const YamlNode& node, const Rule& rule, std::string& value);
std::string read_value(const YamlNode& node, const Rule& rule, std::pair<double, double>& value);
std::string read_value(const YamlNode& node, const Rule& rule, std::vector<std::string>& value);

/// The value as YAML flow text in one line; read_value() gives the same value back.
std::string write_value(bool value);
std::string write_value(int64_t value);
std::string write_value(double value);
std::string write_value(const std::string& value);
std::string write_value(const std::pair<double, double>& value);
std::string write_value(const std::vector<std::string>& value);

/// What is wanted, in words: "a whole number of at least 1". The argument only picks the type.
std::string wanted(const Rule& rule, bool);
std::string wanted(const Rule& rule, int64_t);
std::string wanted(const Rule& rule, double);
std::string wanted(const Rule& rule, const std::string&);
std::string wanted(const Rule& rule, const std::pair<double, double>&);
std::string wanted(const Rule& rule, const std::vector<std::string>&);

/// Whether the node is the word that stands for "no value" (`null`, or `auto` where the rule says
/// so).
bool is_absent(const YamlNode& node, const Rule& rule);

template <typename T>
std::string read_value(const YamlNode& node, const Rule& rule, std::optional<T>& value) {
  if (is_absent(node, rule)) {
    value.reset();
    return "";
  }
  T read{};
  std::string wrong = read_value(node, rule, read);
  if (wrong.empty()) value = std::move(read);
  return wrong;
}

/// A map or list where something else is wanted, and so on.
std::string wrong_kind(const YamlNode& node);

template <typename T>
std::string read_value(const YamlNode& node, const Rule& rule, std::map<std::string, T>& value) {
  if (!node.is_map()) return wrong_kind(node);
  std::map<std::string, T> read;
  for (const YamlNode& item : node.items) {
    std::string wrong = read_value(item, rule, read[item.key]);
    if (!wrong.empty()) return write_value(item.key) + ": " + wrong;
  }
  value = std::move(read);
  return "";
}

template <typename T>
std::string write_value(const std::map<std::string, T>& value) {
  std::string text;
  for (const auto& [key, item] : value)
    text += (text.empty() ? "" : ", ") + write_value(key) + ": " + write_value(item);
  return "{" + text + "}";
}

template <typename T>
std::string wanted(const Rule& rule, const std::optional<T>&) {
  return wanted(rule, T{}) + " or " + std::string(rule.absent);
}
template <typename T>
std::string wanted(const Rule& rule, const std::map<std::string, T>&) {
  return "a map {name: value}, each value " + wanted(rule, T{});
}

/// A member as the config file shows it: also for optionals and lists that have a word or a short
/// form.
template <typename T>
std::string write_member(const Rule&, bool /*was_list*/, const T& value) {
  return write_value(value);
}
template <typename T>
std::string write_member(const Rule& rule, bool /*was_list*/, const std::optional<T>& value) {
  return value ? write_value(*value) : std::string(rule.absent);
}
inline std::string write_member(const Rule& rule, bool was_list,
                                const std::vector<std::string>& value) {
  if (value.empty() && !rule.absent.empty()) return std::string(rule.absent);
  if (rule.or_one && !was_list && value.size() == 1) return write_value(value[0]);
  return write_value(value);
}

/// The object's `was_list` member, where the rule names one.
template <typename Config>
bool was_list(const Config& config, const Rule& rule) {
  if constexpr (std::is_same_v<Config, LoraConfig>)
    return rule.was_list != nullptr && config.*rule.was_list;
  else
    return false;
}

}  // namespace ft
