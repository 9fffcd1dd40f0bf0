// Python's two ways to fill a text: '%s of %d' % values and '{} of {:>5}'.format(...), for the
// conversions s, r, d, i, u, x, X, o, c, e, f, g and %. Widths and precisions are bounded.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "data/jinja_builtins.h"

namespace ft::jinja {
namespace {

struct Spec {
  std::string fill = " ";
  char align = 0;  // < > ^ =
  bool plus = false, space = false, alternate = false, comma = false;
  std::optional<size_t> width, precision;
  char type = 0;
};

/// Reads digits at `at`.
std::optional<size_t> read_size(std::string_view text, size_t& at) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), value);
  if (end == text.data() + at) return std::nullopt;
  if (error != std::errc() || value > static_cast<size_t>(kMaxFieldWidth))
    raise("a width or precision in a format is larger than ", kMaxFieldWidth);
  at = static_cast<size_t>(end - text.data());
  return value;
}

std::string pad(const std::string& body, const Spec& spec, char default_align) {
  const size_t have = num_points(Text(body).plain());
  if (!spec.width || *spec.width <= have) return body;
  const size_t missing = *spec.width - have;
  const char align = spec.align ? spec.align : default_align;
  const size_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string out;
  const size_t sign = align == '=' && !body.empty() && (body[0] == '-' || body[0] == '+');
  out += body.substr(0, sign);
  for (size_t i = 0; i < left; ++i) out += spec.fill;
  out += body.substr(sign);
  for (size_t i = left; i < missing; ++i) out += spec.fill;
  return out;
}

std::string print_double(double value, size_t precision, char type, bool alternate) {
  const char format[] = {'%', '.', '*', type, '\0'}, longer[] = {'%', '#', '.', '*', type, '\0'};
  const char* chosen = alternate ? longer : format;
  const int digits = static_cast<int>(precision);
  const int size = std::snprintf(nullptr, 0, chosen, digits, value);
  std::string out(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), chosen, digits, value);
  out.pop_back();
  return out;
}

std::string with_sign(std::string digits, bool negative, const Spec& spec) {
  if (spec.comma) {
    size_t end = digits.find_first_not_of("0123456789");
    if (end == std::string::npos) end = digits.size();
    for (size_t i = end; i > 3; i -= 3) digits.insert(i - 3, ",");
  }
  return (negative ? "-" : spec.plus ? "+" : spec.space ? " " : "") + digits;
}

std::string integer_text(int64_t value, const Spec& spec) {
  const int base = (spec.type | 32) == 'x' ? 16 : spec.type == 'o' ? 8 : spec.type == 'b' ? 2 : 10;
  // The magnitude of INT64_MIN fits only the unsigned type.
  const uint64_t magnitude =
      value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  char buffer[72];
  std::string digits(buffer, std::to_chars(buffer, buffer + sizeof buffer, magnitude, base).ptr);
  if (spec.type == 'X') digits = to_case(digits, Case::kUpper);
  if (spec.precision && digits.size() < *spec.precision)
    digits.insert(0, *spec.precision - digits.size(), '0');
  if (spec.alternate && base != 10) digits = str('0', spec.type, digits);
  return with_sign(std::move(digits), value < 0, spec);
}

std::string float_value_text(double value, const Spec& spec) {
  const double magnitude = std::abs(value);
  const bool percent = spec.type == '%';
  std::string digits;
  if (!spec.type && !spec.precision) {
    digits = float_text(magnitude);
  } else {
    const char type = percent ? 'f' : spec.type ? spec.type : 'g';
    digits = print_double(percent ? magnitude * 100 : magnitude, spec.precision.value_or(6), type,
                          spec.alternate);
  }
  if (percent) digits += '%';
  return with_sign(std::move(digits), std::signbit(value) && !std::isnan(value), spec);
}

std::string number_text(const Value& value, const Spec& spec) {
  static constexpr std::string_view kFloatTypes = "eEfFgG%";
  const bool as_float = value.is_float() || kFloatTypes.find(spec.type) != std::string_view::npos;
  if (!as_float || (spec.type && kFloatTypes.find(spec.type) == std::string_view::npos)) {
    if (!value.is_int()) raise("Unknown format code '", spec.type, "' for object of type 'float'");
    return pad(integer_text(value.integer(), spec), spec, '>');
  }
  return pad(float_value_text(value.number(), spec), spec, '>');
}

std::string text_value(const std::string& raw, const Spec& spec, char default_align) {
  const Text text(raw);
  return pad(spec.precision ? text.cut(0, offset_of(text.plain(), *spec.precision)) : raw, spec,
             default_align);
}

/// One %-conversion: the text after the '%'.
class Percent {
 public:
  Percent(Runtime& runtime, const std::string& text, const Value& values)
      : runtime_(runtime), text_(text), values_(values), out_(runtime.budget) {
    is_tuple_ = values.is_seq() && (values.seq().form == Form::kTuple);
  }

  Value run() {
    for (size_t at = 0; at < text_.size();) {
      if (text_[at] == '%') {
        conversion(++at);
      } else {
        const size_t end = std::min(text_.find('%', at), text_.size());
        out_.append(std::string_view(text_).substr(at, end - at));
        at = end;
      }
    }
    const size_t given = is_tuple_ ? values_.seq().items.size() : 1;
    if (next_ < given && !used_names_ && !values_.is_dict())
      raise("not all arguments converted during string formatting");
    return out_.take();
  }

 private:
  Runtime& runtime_;
  const std::string& text_;
  const Value& values_;
  Builder out_;
  bool is_tuple_ = false, used_names_ = false;
  size_t next_ = 0;

  char at_or_end(size_t at) const { return at < text_.size() ? text_[at] : '\0'; }

  Value take() {
    const size_t given = is_tuple_ ? values_.seq().items.size() : 1;
    if (next_ >= given) raise("not enough arguments for format string");
    return is_tuple_ ? values_.seq().items[next_++] : (++next_, values_);
  }

  void conversion(size_t& at) {
    std::optional<Value> named;
    if (at_or_end(at) == '(') {
      const size_t end = text_.find(')', at);
      if (end == std::string::npos) raise("incomplete format key");
      if (!values_.is_dict()) raise("format requires a mapping");
      const std::string key = text_.substr(at + 1, end - at - 1);
      const Value* found = values_.dict().find(std::string_view(key), runtime_.budget);
      if (!found) raise("format key '", printable(key), "' is missing");
      named = *found;
      used_names_ = true;
      at = end + 1;
    }
    Spec spec;
    for (;; ++at) {
      const char flag = at_or_end(at);
      if (flag == '-')
        spec.align = '<';
      else if (flag == '+')
        spec.plus = true;
      else if (flag == ' ')
        spec.space = true;
      else if (flag == '#')
        spec.alternate = true;
      else if (flag == '0')
        spec.fill = "0";
      else
        break;
    }
    spec.width = read_size(text_, at);
    if (at_or_end(at) == '.') spec.precision = read_size(text_, ++at).value_or(0);
    spec.type = at_or_end(at++);
    if (spec.type == '%') return out_.append("%");
    out_.append(converted(named ? *named : take(), spec));
  }

  std::string converted(const Value& value, Spec spec) {
    if (spec.align == '<' || spec.type == 's' || spec.type == 'r') spec.fill = " ";
    if (spec.fill == "0") spec.align = '=';
    switch (spec.type) {
      case 's':
        return text_value(to_text(value, runtime_.budget), spec, '>');
      case 'r':
      case 'a':
        return text_value(repr(value, runtime_.budget), spec, '>');
      case 'c':
        if (value.is_string() && length(value, runtime_.budget) == 1)
          return text_value(value.string(), spec, '>');
        raise("%c requires a character");
      case 'd':
      case 'i':
      case 'u':
        if (!value.is_number())
          raise("%", spec.type, " format: a real number is required, not ", value.type_name());
        spec.type = 'd';
        if (!value.is_float()) return number_text(value, spec);
        if (!(std::abs(value.number()) < 9e18)) raise("an integer is out of range");
        return number_text(static_cast<int64_t>(value.number()), spec);
      case 'x':
      case 'X':
      case 'o':
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (!value.is_number()) raise("must be real number, not ", value.type_name());
        return number_text(value, spec);
      default:
        raise("unsupported format character '", printable(std::string(1, spec.type)), "'");
    }
  }
};

Spec read_spec(std::string_view text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < text.size() && std::string_view("<>^=").find(text[i]) != std::string_view::npos;
  };
  const size_t first = text.empty() ? 0 : width(text[0]);
  if (first > 0 && is_align(first)) {
    spec.fill = std::string(text.substr(0, first));
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  const auto flag = [&](char c) { return at < text.size() && text[at] == c && ++at; };
  spec.plus = flag('+');
  if (!spec.plus && !flag('-')) spec.space = flag(' ');
  spec.alternate = flag('#');
  if (flag('0') && !spec.align) {
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = read_size(text, at);
  spec.comma = flag(',');
  if (flag('.')) {
    spec.precision = read_size(text, at);
    if (!spec.precision) raise("Format specifier missing precision");
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) raise("Invalid format specifier");
  return spec;
}

std::string by_spec(Runtime& runtime, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return to_text(value, runtime.budget);
  const Spec spec = read_spec(spec_text);
  if (value.is_string()) {
    if (spec.type && spec.type != 's')
      raise("Unknown format code '", spec.type, "' for object of type 'str'");
    return text_value(value.string(), spec, '<');
  }
  if (!value.is_number() || value.is_bool())
    return text_value(to_text(value, runtime.budget), spec, '<');
  static constexpr std::string_view kTypes("\0bdoxXneEfFgG%", 14);
  if (kTypes.find(spec.type) == std::string_view::npos)
    raise("Unknown format code '", printable(std::string(1, spec.type)), "'");
  return number_text(value, spec);
}

/// "0.name[key]" of a replacement field; `automatic` counts the fields without number.
Value field_value(Runtime& runtime, std::string_view field, const Args& args, size_t& automatic) {
  size_t end = std::min(field.find_first_of(".["), field.size());
  const std::string first(field.substr(0, end));
  Value value;
  size_t index = automatic, at = 0;
  const bool numbered =
      !first.empty() && first.find_first_not_of("0123456789") == std::string::npos;
  if (first.empty()) ++automatic;
  if (numbered) index = *read_size(first, at);
  if (first.empty() || numbered) {
    if (index >= args.positional.size())
      raise("Replacement index ", index, " out of range for positional args tuple");
    value = args.positional[index];
  } else {
    const auto found = std::find_if(args.named.begin(), args.named.end(),
                                    [&](const auto& entry) { return entry.first == first; });
    if (found == args.named.end()) raise("format has no value named '", printable(first), "'");
    value = found->second;
  }
  while (end < field.size()) {
    if (field[end] == '.') {
      const size_t stop = std::min(field.find_first_of(".[", end + 1), field.size());
      value = get_attribute(runtime, value, field.substr(end + 1, stop - end - 1));
      end = stop;
    } else {
      const size_t stop = field.find(']', end);
      if (field[end] != '[' || stop == std::string_view::npos)
        raise("Missing ']' in format string");
      const std::string key(field.substr(end + 1, stop - end - 1));
      const bool is_index =
          !key.empty() && key.find_first_not_of("0123456789") == std::string::npos;
      at = 0;
      value = get_item(runtime, value,
                       is_index ? Value(static_cast<int64_t>(*read_size(key, at))) : Value(key));
      end = stop + 1;
    }
  }
  return value;
}

}  // namespace

Value format_percent(Runtime& runtime, const std::string& text, const Value& values) {
  return Percent(runtime, text, values).run();
}

Value format_braces(Runtime& runtime, const std::string& text, const Args& args) {
  Builder out(runtime.budget);
  size_t automatic = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c != '{' && c != '}') {
      out.append(1, c);
      continue;
    }
    if (at + 1 < text.size() && text[at + 1] == c) {
      out.append(1, text[++at]);
      continue;
    }
    if (c == '}') raise("Single '}' encountered in format string");
    const size_t end = text.find('}', at);
    if (end == std::string::npos) raise("Single '{' encountered in format string");
    const std::string field = without_marks(std::string_view(text).substr(at + 1, end - at - 1));
    const size_t colon = std::min(field.find(':'), field.size());
    std::string_view name = std::string_view(field).substr(0, colon);
    const size_t bang = std::min(name.find('!'), name.size());
    const std::string_view conversion = name.substr(bang);
    name = name.substr(0, bang);
    Value value = field_value(runtime, name, args, automatic);
    if (conversion == "!r") {
      value = repr(value, runtime.budget);
    } else if (conversion == "!s") {
      value = to_text(value, runtime.budget);
    } else if (!conversion.empty()) {
      raise("format: unknown conversion '", printable(conversion), "'");
    }
    const std::string_view spec =
        colon < field.size() ? std::string_view(field).substr(colon + 1) : std::string_view();
    out.append(by_spec(runtime, value, spec));
    at = end;
  }
  return out.take();
}

}  // namespace ft::jinja
