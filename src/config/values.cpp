// Typing of YAML scalars. It follows the core schema of YAML 1.2, less what readers disagree on:
// 010 is 8 in some and 10 in others, yes is true in some and a text in others; both are refused
// where the difference would matter. Plain numbers are fine where a text is wanted (a folder may be
// called 2024): the characters of the file are kept.
#include "config/values.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "base/names.h"

namespace ft {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

bool is_any_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string in_quotes(std::string_view text) {
  return "\"" + printable(text) + "\"";
}

/// The digits of a plain number without a plus sign; "" with the reason in `wrong` otherwise.
std::string_view number_text(const YamlNode& node, std::string& wrong) {
  if (!node.is_scalar()) {
    wrong = wrong_kind(node);
    return "";
  }
  std::string_view text = node.text;
  if (!node.is_plain()) {
    wrong = in_quotes(text) + " in quotes is a text";
    return "";
  }
  if (text.starts_with('+')) text.remove_prefix(1);
  const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
  if (digits.empty() || !(is_digit(digits[0]) || digits[0] == '.') ||
      lower(digits).find_first_not_of("0123456789.e+-") != std::string::npos) {
    const std::string word = lower(digits);
    const bool not_finite = is_any_of(word, {".nan", ".inf", "nan", "inf", "infinity"});
    wrong = in_quotes(node.text) + (not_finite ? " is not finite" : " is not a decimal number");
    return "";
  }
  if (digits.size() > 1 && digits[0] == '0' && is_digit(digits[1])) {
    wrong = printable(node.text) + " has a leading zero, which some read as octal";
    return "";
  }
  return text;
}

bool in_range(const Rule& rule, double value) {
  return (rule.above_low ? value > rule.low : value >= rule.low) &&
         (rule.below_high ? value < rule.high : value <= rule.high);
}

std::string range_text(const Rule& rule) {
  const auto number = [](double value) {
    return value == std::floor(value) && std::abs(value) < 1e15
               ? std::to_string(static_cast<int64_t>(value))
               : float_text(value);
  };
  const bool has_low = std::isfinite(rule.low), has_high = std::isfinite(rule.high);
  if (has_low && has_high && !rule.above_low && !rule.below_high)
    return " from " + number(rule.low) + " to " + number(rule.high);
  std::string text;
  if (has_low) text += (rule.above_low ? " above " : " of at least ") + number(rule.low);
  if (has_low && has_high) text += " and";
  if (has_high) text += (rule.below_high ? " below " : " of at most ") + number(rule.high);
  return text;
}

bool is_bool_word(std::string_view text) {
  return is_any_of(text, {"true", "True", "TRUE", "false", "False", "FALSE"});
}

/// Whether every YAML reader takes the plain text for this very text. Narrow on purpose: quotes are
/// never wrong.
bool is_safe_plain(std::string_view text) {
  if (text.empty() || text.size() > 1000) return false;
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!is_letter(text[0]) && text[0] != '_' && text[0] != '/' && !text.starts_with("./") &&
      !text.starts_with("../"))
    return false;
  for (const char c : text)
    if (!is_letter(c) && !is_digit(c) && c != '_' && c != '.' && c != '/' && c != '-') return false;
  return !is_any_of(lower(text), {"null", "true", "false", "yes", "no", "on", "off", "y", "n",
                                  "nan", "inf", "infinity"});
}

}  // namespace

std::string wrong_kind(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "has no value (null)";
    case YamlNode::Kind::kList:
      return "is a list";
    case YamlNode::Kind::kMap:
      return "is a map (put a text with a colon in quotes)";
    default:
      return in_quotes(node.text) + " is a single value";
  }
}

bool is_absent(const YamlNode& node, const Rule& rule) {
  if (rule.absent == "null") return node.is_null();
  return !rule.absent.empty() && node.is_scalar() && node.text == rule.absent;
}

std::string read_value(const YamlNode& node, const Rule&, bool& value) {
  if (!node.is_scalar()) return wrong_kind(node);
  if (!node.is_plain() || !is_bool_word(node.text))
    return in_quotes(node.text) + (node.is_plain() ? "" : " in quotes") + " is no truth value";
  value = lower(node.text) == "true";
  return "";
}

std::string read_value(const YamlNode& node, const Rule& rule, int64_t& value) {
  std::string wrong;
  const std::string_view text = number_text(node, wrong);
  if (!wrong.empty()) return wrong;
  int64_t read = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, read);
  if (error == std::errc() && end != last) {
    double number = 0;  // 1e3 and 8.0 are floats in YAML
    const bool is_number = std::from_chars(text.data(), last, number).ptr == last;
    const bool is_whole = is_number && number == std::floor(number) && std::abs(number) < 1e15;
    return printable(node.text) + " is not a whole number" +
           (is_whole ? str(", write ", static_cast<int64_t>(number)) : "");
  }
  if (error == std::errc::invalid_argument) return in_quotes(node.text) + " is not a whole number";
  if (error != std::errc() || !in_range(rule, static_cast<double>(read)))
    return printable(node.text) + " is out of range";
  value = read;
  return "";
}

std::string read_value(const YamlNode& node, const Rule& rule, double& value) {
  std::string wrong;
  const std::string_view text = number_text(node, wrong);
  if (!wrong.empty()) return wrong;
  double read = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, read);
  if (error == std::errc::invalid_argument || end != last)
    return in_quotes(node.text) + " is not a number";
  if (error != std::errc() || !std::isfinite(read) || !in_range(rule, read))
    return printable(node.text) + " is out of range";
  value = read;
  return "";
}

std::string read_value(const YamlNode& node, const Rule& rule, std::string& value) {
  if (!node.is_scalar()) return wrong_kind(node);
  const std::string& text = node.text;
  const bool is_name = std::find(rule.names.begin(), rule.names.end(), text) != rule.names.end();
  const bool is_other = rule.also != nullptr && rule.also(text);
  if (!rule.names.empty() && !is_name && !is_other)
    return in_quotes(text) + " is unknown" + did_you_mean(text, rule.names);
  if (rule.names.empty() && node.is_plain() && is_bool_word(text))
    return text + " is a truth value (put it in quotes if the text is meant)";
  value = text;
  return "";
}

std::string read_value(const YamlNode& node, const Rule& rule, std::pair<double, double>& value) {
  if (!node.is_list()) return wrong_kind(node);
  if (node.items.size() != 2) return str("is a list of ", node.items.size());
  std::pair<double, double> read;
  std::string wrong = read_value(node.items[0], rule, read.first);
  if (wrong.empty()) wrong = read_value(node.items[1], rule, read.second);
  if (wrong.empty()) value = read;
  return wrong;
}

std::string read_value(const YamlNode& node, const Rule& rule, std::vector<std::string>& value) {
  std::vector<std::string> read;
  const auto add = [&](const YamlNode& item) -> std::string {
    std::string wrong = read_value(item, Rule{}, read.emplace_back());
    return wrong.empty() && read.back().empty() ? "an empty text" : wrong;
  };
  if (rule.or_one && node.is_scalar()) {
    if (std::string wrong = add(node); !wrong.empty()) return wrong;
  } else if (node.is_list()) {
    for (const YamlNode& item : node.items)
      if (std::string wrong = add(item); !wrong.empty())
        return str("element ", read.size(), ": ", wrong);
  } else if (!is_absent(node, rule)) {
    return wrong_kind(node);
  }
  value = std::move(read);
  return "";
}

std::string write_value(bool value) {
  return value ? "true" : "false";
}
std::string write_value(int64_t value) {
  return std::to_string(value);
}
std::string write_value(double value) {
  return float_text(value);
}
std::string write_value(const std::string& value) {
  return is_safe_plain(value) ? value : json_quote(value);
}
std::string write_value(const std::pair<double, double>& value) {
  return "[" + float_text(value.first) + ", " + float_text(value.second) + "]";
}
std::string write_value(const std::vector<std::string>& value) {
  std::string text;
  for (const std::string& item : value) text += (text.empty() ? "" : ", ") + write_value(item);
  return "[" + text + "]";
}

std::string wanted(const Rule&, bool) {
  return "true or false";
}
std::string wanted(const Rule& rule, int64_t) {
  return "a whole number" + range_text(rule);
}
std::string wanted(const Rule& rule, double) {
  return "a number" + range_text(rule);
}
std::string wanted(const Rule& rule, const std::string&) {
  if (rule.names.empty()) return "a text";
  std::vector<std::string_view> names = rule.names;
  if (!rule.also_text.empty()) names.push_back(rule.also_text);
  const std::string_view last = names.back();
  names.pop_back();
  return join(names) + " or " + std::string(last);
}
std::string wanted(const Rule& rule, const std::pair<double, double>&) {
  return "a list of two numbers, each" + range_text(rule);
}
std::string wanted(const Rule& rule, const std::vector<std::string>&) {
  return std::string(rule.or_one ? "a text or a list of texts" : "a list of texts") +
         (rule.absent.empty() ? "" : " or " + std::string(rule.absent));
}

}  // namespace ft
