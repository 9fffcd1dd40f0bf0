// Filters on numbers and single values, tojson among them; and the look-up of all filters.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "data/jinja_builtins.h"

namespace ft::jinja {
namespace {

Value absolute(Runtime&, const Value& input, const Args& args) {
  const Bound bound("abs", args, {});
  if (input.is_undefined()) raise(input.undefined_message());
  if (!input.is_number()) raise("bad operand type for abs(): '", input.type_name(), "'");
  if (input.is_float()) return std::abs(input.number());
  return input.integer() < 0 ? negate(input) : Value(input.integer());
}

/// The text of a number as Python's int() and float() take it: blanks around it, a sign, digits
/// with single underscores between them.
std::string number_digits(const std::string& raw) {
  std::string text = strip(without_marks(raw), std::nullopt, 'b');
  if (text.starts_with('+') && text.size() > 1 && text[1] != '-') text.erase(0, 1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') continue;
    const auto is_digit = [&](size_t at) {
      return at < text.size() && std::isalnum(static_cast<unsigned char>(text[at]));
    };
    if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return "";
    text.erase(i, 1);
  }
  return text;
}

std::optional<double> read_double(const std::string& raw) {
  const std::string text = number_digits(raw);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || text.empty()) return std::nullopt;
  if (error == std::errc::result_out_of_range)
    return std::strtod(text.c_str(), nullptr);  // 0 or infinity, as in Python
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> read_int(const std::string& raw, int64_t base) {
  std::string text = number_digits(raw);
  const bool negative = text.starts_with('-');
  const size_t first = negative;
  const char prefix = text.size() > first + 2 && text[first] == '0'
                          ? static_cast<char>(text[first + 1] | 32)
                          : '\0';
  if ((base == 16 && prefix == 'x') || (base == 8 && prefix == 'o') || (base == 2 && prefix == 'b'))
    text.erase(first, 2);
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, static_cast<int>(base));
  if (error == std::errc::result_out_of_range) raise("an integer is out of range");
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int64_t truncated(double value) {
  if (!(std::abs(value) < 9.2e18)) raise("cannot convert ", float_text(value), " to integer");
  return static_cast<int64_t>(value);
}

Value to_int(Runtime&, const Value& input, const Args& args) {
  const Bound bound("int", args, {"default", "base"});
  const int64_t base = bound.integer(1, 10);
  if (base < 2 || base > 36) raise("int() base must be >= 2 and <= 36");
  if (input.is_undefined()) raise(input.undefined_message());
  if (input.is_int()) return input.integer();
  if (input.is_float() && std::isfinite(input.number())) return truncated(input.number());
  if (input.is_string()) {
    if (const auto value = read_int(input.string(), base)) return *value;
    const auto value = read_double(input.string());
    if (value && std::isfinite(*value)) return truncated(*value);
  }
  return bound[0] ? *bound[0] : Value(int64_t{0});
}

Value to_float(Runtime&, const Value& input, const Args& args) {
  const Bound bound("float", args, {"default"});
  if (input.is_undefined()) raise(input.undefined_message());
  if (input.is_number()) return input.number();
  if (input.is_string())
    if (const auto value = read_double(input.string())) return *value;
  return bound[0] ? *bound[0] : Value(0.0);
}

Value round_filter(Runtime&, const Value& input, const Args& args) {
  const Bound bound("round", args, {"precision", "method"});
  if (input.is_undefined()) raise(input.undefined_message());
  if (!input.is_number()) raise("type ", input.type_name(), " doesn't define __round__ method");
  const int64_t precision = std::clamp<int64_t>(bound.integer(0, 0), -400, 400);
  const std::string method = bound.text(1, "common");
  const double value = input.number();
  if (method == "ceil" || method == "floor") {
    const double scale = std::pow(10.0, static_cast<double>(precision));
    return (method == "ceil" ? std::ceil(value * scale) : std::floor(value * scale)) / scale;
  }
  if (method != "common") raise("method must be common, ceil or floor");
  if (!std::isfinite(value)) return value;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    const double rounded = std::nearbyint(value / scale) * scale;
    return input.is_int() && std::abs(rounded) < 9e18 ? Value(static_cast<int64_t>(rounded))
                                                      : Value(rounded);
  }
  // printf rounds the exact binary value half to even, which is what Python's round() does.
  char buffer[800];
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), value);
  const double rounded = std::strtod(buffer, nullptr);
  return input.is_int() ? Value(input.integer()) : Value(rounded);
}

Value default_filter(Runtime&, const Value& input, const Args& args) {
  const Bound bound("default", args, {"default_value", "boolean"});
  const bool replace_it = input.is_undefined() || (bound.truth(1, false) && !truthy(input));
  if (!replace_it) return input;
  return bound[0] ? *bound[0] : Value(std::string());
}

Value attr(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("attr", args, {"name"}, 1);
  // Attributes only, never the keys of a dict.
  if (input.is_dict() && !find_method(input, bound.text(0, "")))
    return Value::undefined("'dict object' has no attribute '" + bound.text(0, "") + "'");
  return get_attribute(runtime, input, bound.text(0, ""));
}

Value tojson(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.truth(0, false);
  style.sort_keys = bound.truth(3, false);
  if (bound[1] && bound[1]->is_string()) {
    style.indent = bound[1]->string();
  } else if (bound[1] && !bound[1]->is_none()) {
    const int64_t width = bound.integer(1, 0);
    if (width > kMaxFieldWidth) raise("an indent of more than ", kMaxFieldWidth);
    style.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  if (style.indent) style.item_separator = ",";
  if (bound[2] && !bound[2]->is_none()) {
    const auto pair = iterate(*bound[2], runtime.budget);
    if (pair->items.size() != 2 || !pair->items[0].is_string() || !pair->items[1].is_string())
      raise("tojson: separators must be two strings");
    style.item_separator = pair->items[0].string();
    style.key_separator = pair->items[1].string();
  }
  return to_json(input, style, runtime.budget);
}

Value length_filter(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("length", args, {});
  return static_cast<int64_t>(length(input, runtime.budget));
}

constexpr Filter kFilters[] = {
    {"abs", absolute},
    {"attr", attr},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"float", to_float},
    {"int", to_int},
    {"length", length_filter},
    {"round", round_filter},
    {"tojson", tojson},
};

}  // namespace

std::span<const Filter> value_filters() {
  return kFilters;
}

const Filter* find_filter(std::string_view name) {
  for (const auto table : {text_filters(), value_filters(), sequence_filters()})
    for (const Filter& filter : table)
      if (filter.name == name) return &filter;
  return nullptr;
}

std::vector<std::string_view> filter_names() {
  std::vector<std::string_view> names;
  for (const auto table : {text_filters(), value_filters(), sequence_filters()})
    for (const Filter& filter : table) names.push_back(filter.name);
  return names;
}

}  // namespace ft::jinja
