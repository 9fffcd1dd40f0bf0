// Filters on single values: texts, numbers, tojson; and the look-up of all filters. What is no
// string is printed before a text filter sees it, as jinja2 does.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/jinja/builtins.h"

namespace ft::jinja {
namespace {

std::string printed(Runtime& runtime, const Value& v) {
  return to_text(v, runtime.budget);
}

/// The filter that prints its input and calls the method of that name.
template <const char* name>
Value by_method(Runtime& runtime, const Value& input, const Args& args) {
  const Value text(printed(runtime, input));
  return find_method(text, name)->apply(runtime, text, args);
}
constexpr char kCapitalize[] = "capitalize", kLower[] = "lower", kTrim[] = "strip",
               kUpper[] = "upper";

/// Unlike str.title(): a word begins after blanks, hyphens and opening brackets only.
Value title_filter(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("title", args, {});
  const std::string text = printed(runtime, input);
  return title_words(text);
}

Value replace_filter(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("replace", args, {"old", "new", "count"}, 2);
  return replace(runtime, printed(runtime, input), printed(runtime, *bound[0]),
                 printed(runtime, *bound[1]), bound.integer(2, -1));
}

Value string_filter(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("string", args, {});
  return printed(runtime, input);
}

Value escape(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("escape", args, {});
  Builder out(runtime.budget);
  static constexpr std::string_view kPlain = "&<>\"'";
  static constexpr std::string_view kEscaped[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
  for (const char c : printed(runtime, input)) {
    const size_t at = kPlain.find(c);
    out.append(at == std::string_view::npos ? std::string_view(&c, 1) : kEscaped[at]);
  }
  return out.take();
}

Value indent(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("indent", args, {"width", "first", "blank"});
  std::string by;
  if (bound[0] && bound[0]->is_string()) {
    by = bound[0]->string();
  } else {
    const int64_t width = bound.integer(0, 4);
    if (width > kMaxFieldWidth) raise("an indent of more than ", kMaxFieldWidth);
    by.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  const bool blank = bound.truth(2, false);
  Builder out(runtime.budget);
  // The newline makes a last empty line count, as in jinja2.
  const auto lines = split_lines(printed(runtime, input) + "\n");
  runtime.budget.work(lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n");
    if (i == 0 ? bound.truth(1, false) : blank || !lines[i].empty()) out.append(by);
    out.append(lines[i]);
  }
  return out.take();
}

/// A text that is all number, with blanks around it and single underscores between its digits.
template <typename Number>
std::optional<Number> read_number(const std::string& raw) {
  std::string text = strip(without_marks(raw), std::nullopt, 'b');
  if (text.starts_with('+') && text.size() > 1 && text[1] != '-') text.erase(0, 1);
  const auto is_digit = [&](size_t i) {
    return i < text.size() && text[i] >= '0' && text[i] <= '9';
  };
  for (size_t i = text.size(); i-- > 1;)
    if (text[i] == '_' && is_digit(i - 1) && is_digit(i + 1)) text.erase(i, 1);
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) raise("a number is out of range");
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int64_t truncated(double value) {
  if (!(std::abs(value) < 9.2e18)) raise("cannot convert ", float_text(value), " to integer");
  return static_cast<int64_t>(value);
}

Value to_int(Runtime&, const Value& input, const Args& args) {
  const Bound bound("int", args, {"default"});
  if (input.is_undefined()) raise(input.undefined_message());
  if (input.is_int()) return input.integer();
  if (input.is_float() && std::isfinite(input.number())) return truncated(input.number());
  if (input.is_string()) {
    if (const auto value = read_number<int64_t>(input.string())) return *value;
    const auto value = read_number<double>(input.string());
    if (value && std::isfinite(*value)) return truncated(*value);
  }
  return bound[0] ? *bound[0] : Value(int64_t{0});
}

Value to_float(Runtime&, const Value& input, const Args& args) {
  const Bound bound("float", args, {"default"});
  if (input.is_undefined()) raise(input.undefined_message());
  if (input.is_number()) return input.number();
  if (input.is_string())
    if (const auto value = read_number<double>(input.string())) return *value;
  return bound[0] ? *bound[0] : Value(0.0);
}

Value default_filter(Runtime&, const Value& input, const Args& args) {
  const Bound bound("default", args, {"default_value", "boolean"});
  const bool replace_it = input.is_undefined() || (bound.truth(1, false) && !truthy(input));
  if (!replace_it) return input;
  return bound[0] ? *bound[0] : Value(std::string());
}

Value tojson(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  if (bound.truth(0, false)) raise("tojson: ensure_ascii=true is not supported");
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
    {"count", length_filter},
    {"d", default_filter},
    {"capitalize", by_method<kCapitalize>},
    {"default", default_filter},
    {"float", to_float},
    {"int", to_int},
    {"e", escape},
    {"escape", escape},
    {"indent", indent},
    {"length", length_filter},
    {"tojson", tojson},
    {"lower", by_method<kLower>},
    {"replace", replace_filter},
    {"safe", string_filter},
    {"string", string_filter},
    {"title", title_filter},
    {"trim", by_method<kTrim>},
    {"upper", by_method<kUpper>},
};

}  // namespace

const Filter* find_filter(std::string_view name) {
  for (const auto table : {std::span<const Filter>(kFilters), sequence_filters()})
    for (const Filter& filter : table)
      if (filter.name == name) return &filter;
  return nullptr;
}

std::vector<std::string_view> filter_names() {
  std::vector<std::string_view> names;
  for (const auto table : {std::span<const Filter>(kFilters), sequence_filters()})
    for (const Filter& filter : table) names.push_back(filter.name);
  return names;
}

}  // namespace ft::jinja
