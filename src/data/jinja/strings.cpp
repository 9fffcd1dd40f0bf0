// The methods of str, and the text functions that filters share with them. Searching looks at the
// text without marks; parts are cut out with them.
#include <algorithm>

#include "data/jinja/builtins.h"

namespace ft::jinja {
std::string strip(std::string_view raw, const std::optional<std::string>& chars, char which) {
  const Text text(raw);
  const std::string_view plain = text.plain();
  std::u32string set;
  for (size_t at = 0; chars && at < chars->size();) set += next_point(*chars, at);
  const auto drops = [&](size_t at) {
    const char32_t p = next_point(plain, at);
    return chars ? set.find(p) != std::u32string::npos : is_space(p);
  };
  size_t begin = 0, end = plain.size();
  if (which != 'r')
    while (begin < end && drops(begin)) begin += width(plain[begin]);
  if (which != 'l')
    while (end > begin && drops(previous(plain, end))) end = previous(plain, end);
  return text.cut(begin, end);
}

std::string replace(Runtime& runtime, const std::string& raw, const std::string& old,
                    const std::string& with, int64_t count) {
  runtime.budget.scan(raw.size());
  const Text text(raw), wanted(old);
  const std::string_view plain = text.plain(), needle = wanted.plain();
  Builder out(runtime.budget);
  size_t begin = 0, search = 0;
  for (; count != 0; --count) {
    if (count < 0) count = -1;  // without limit
    // An empty text is found before every character and at the end.
    const size_t at = needle.empty() ? search : find_text(plain, needle, search);
    if (at == std::string_view::npos || at > plain.size()) break;
    out.append(text.cut(begin, at));
    out.append(with);
    begin = at + needle.size();
    search = !needle.empty() ? begin : at < plain.size() ? at + width(plain[at]) : plain.size() + 1;
  }
  if (begin == 0 && out.size() == 0) return raw;
  out.append(text.cut(begin, plain.size()));
  return out.take();
}

/// The value of a field of format_braces(): a number, a name, or empty for the next one.
static const Value& field_value(const std::string& field, const Args& args, size_t& automatic) {
  const bool is_index = field.find_first_not_of("0123456789") == std::string::npos;
  if (is_index && field.size() < 5) {
    const size_t i = field.empty() ? automatic++ : std::stoul(field);
    if (i >= args.positional.size()) raise("format: there is no value for field ", i);
    return args.positional[i];
  }
  for (const auto& [name, value] : args.named)
    if (name == field) return value;
  raise("format: there is no value for {", printable(field), "}, only {}, {0} and {name} are ",
        "supported");
}

Value format_braces(Runtime& runtime, const std::string& text, const Args& args) {
  Builder out(runtime.budget);
  size_t automatic = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c != '{' && c != '}') {
      out.append(1, c);
    } else if (at + 1 < text.size() && text[at + 1] == c) {
      out.append(1, text[++at]);
    } else {
      const size_t end = text.find('}', at);
      if (c == '}' || end == std::string::npos) raise("a single '", c, "' in a format string");
      const std::string field = without_marks(std::string_view(text).substr(at + 1, end - at - 1));
      out.append(to_text(field_value(field, args, automatic), runtime.budget));
      at = end;
    }
  }
  return out.take();
}

void check_parts(size_t count) {
  if (count > kMaxItems) raise("a list of more than ", kMaxItems, " elements");
}

std::vector<std::string> split_lines(const std::string& raw) {
  const Text text(raw);
  const std::string_view plain = text.plain();
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t at = 0; at < plain.size();) {
    const size_t end = at;
    const char32_t p = next_point(plain, at);
    const bool is_break = (p >= '\n' && p <= '\r') || (p >= 0x1c && p <= 0x1e) || p == 0x85 ||
                          p == 0x2028 || p == 0x2029;
    if (!is_break) continue;
    if (p == '\r' && at < plain.size() && plain[at] == '\n') ++at;
    out.push_back(text.cut(begin, end));
    check_parts(out.size());
    begin = at;
  }
  if (begin < plain.size()) out.push_back(text.cut(begin, plain.size()));
  return out;
}

std::string join_texts(Runtime& runtime, const std::string& separator, const Value& items,
                       bool any) {
  Builder out(runtime.budget);
  bool first = true;
  const auto elements = iterate(items, runtime.budget);
  for (const Value& item : elements->items) {
    runtime.budget.work();
    if (!first) out.append(separator);
    first = false;
    if (!any && !item.is_string())
      raise("sequence item: expected str instance, ", item.type_name(), " found");
    out.append(to_text(item, runtime.budget));
  }
  return out.take();
}

namespace {

constexpr size_t kNone = std::string_view::npos;

Value strings(Runtime& runtime, const std::vector<std::string>& parts) {
  std::vector<Value> items;
  runtime.budget.allocate(parts.size() * 64);
  items.reserve(parts.size());
  for (const std::string& part : parts) items.emplace_back(part);
  return Value::list(runtime.budget, std::move(items));
}

const std::string& self_text(Runtime& runtime, const Value& self) {
  runtime.budget.scan(self.string().size());
  return self.string();
}

/// An argument that has to be a string, with marks.
const std::string& needed(const Bound& bound, size_t i) {
  if (!bound[i]->is_string()) {
    if (bound[i]->is_undefined()) raise(bound[i]->undefined_message());
    raise("must be str, not ", bound[i]->type_name());
  }
  return bound[i]->string();
}

template <char which>
Value strip_method(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("strip", args, {"chars"});
  std::optional<std::string> chars;
  if (bound[0] && !bound[0]->is_none()) chars = bound.text(0, "");
  return strip(self_text(runtime, self), chars, which);
}

/// Splits at white space, at most so many times (< 0: everywhere).
std::vector<std::string> split_space(const Text& text, int64_t most) {
  const std::string_view plain = text.plain();
  std::vector<std::string> out;
  for (size_t at = 0; at < plain.size();) {
    const size_t begin = at;
    if (is_space(next_point(plain, at))) continue;
    size_t end = at;
    while (at < plain.size() && !is_space(next_point(plain, at))) end = at;
    if (static_cast<int64_t>(out.size()) == most) at = end = plain.size();
    out.push_back(text.cut(begin, end));
    check_parts(out.size());
  }
  return out;
}

/// Splits at the separators, at most so many (< 0: all), the first ones or (`right`) the last ones.
std::vector<std::string> split_at(const Text& text, const std::string& separator, int64_t most,
                                  bool right) {
  if (separator.empty()) raise("empty separator");
  const std::string_view plain = text.plain();
  std::vector<size_t> found;
  for (size_t at = 0; (at = find_text(plain, separator, at)) != kNone; at += separator.size()) {
    found.push_back(at);
    check_parts(found.size());
  }
  const size_t over =
      most < 0 ? 0 : found.size() - std::min(found.size(), static_cast<size_t>(most));
  found.erase(right ? found.begin() : found.end() - static_cast<std::ptrdiff_t>(over),
              right ? found.begin() + static_cast<std::ptrdiff_t>(over) : found.end());
  std::vector<std::string> out;
  size_t begin = 0;
  for (const size_t at : found) {
    out.push_back(text.cut(begin, at));
    begin = at + separator.size();
  }
  out.push_back(text.cut(begin, plain.size()));
  return out;
}

template <bool right>
Value split(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("split", args, {"sep", "maxsplit"});
  const Text text(self_text(runtime, self));
  const int64_t most = bound.integer(1, -1);
  if (!bound[0] || bound[0]->is_none()) {
    if (right && most >= 0) raise("rsplit() with a limit needs a separator");
    return strings(runtime, split_space(text, most));
  }
  return strings(runtime, split_at(text, bound.text(0, ""), most, right));
}

Value splitlines(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("splitlines", args, {});
  return strings(runtime, split_lines(self_text(runtime, self)));
}

template <bool at_end>
Value starts_with(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound(at_end ? "endswith" : "startswith", args, {"prefix"}, 1);
  const Text text(self_text(runtime, self));
  const auto matches = [&](const Value& v) {
    if (!v.is_string())
      raise(at_end ? "endswith" : "startswith", " first arg must be str or a tuple of str, not ",
            v.type_name());
    const Text wanted(v.string());
    return at_end ? text.plain().ends_with(wanted.plain())
                  : text.plain().starts_with(wanted.plain());
  };
  if (!bound[0]->is_seq() || bound[0]->seq().form == Form::kList) return matches(*bound[0]);
  const auto& options = bound[0]->seq().items;
  runtime.budget.work(options.size());
  return std::any_of(options.begin(), options.end(), matches);
}

/// Index in code points, or -1.
Value find(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("find", args, {"sub"}, 1);
  const Text text(self_text(runtime, self)), wanted(needed(bound, 0));
  const size_t at = find_text(text.plain(), wanted.plain());
  if (at == kNone) return int64_t{-1};
  return static_cast<int64_t>(num_points(text.plain().substr(0, at)));
}

Value replace_method(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("replace", args, {"old", "new", "count"}, 2);
  return replace(runtime, self.string(), needed(bound, 0), needed(bound, 1), bound.integer(2, -1));
}

Value join(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("join", args, {"iterable"}, 1);
  return join_texts(runtime, self.string(), *bound[0], false);
}

template <Case wanted>
Value cased(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("upper/lower", args, {});
  return to_case(self_text(runtime, self), wanted);
}

Value capitalize_method(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("capitalize", args, {});
  return capitalize(self_text(runtime, self));
}

Value isdigit(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("isdigit", args, {});
  const std::string text = without_marks(self_text(runtime, self));
  return !text.empty() && text.find_first_not_of("0123456789") == kNone;
}

Value format(Runtime& runtime, const Value& self, const Args& args) {
  return format_braces(runtime, self_text(runtime, self), args);
}

constexpr Method kMethods[] = {
    {"strip", strip_method<'b'>},
    {"lstrip", strip_method<'l'>},
    {"rstrip", strip_method<'r'>},
    {"split", split<false>},
    {"rsplit", split<true>},
    {"splitlines", splitlines},
    {"startswith", starts_with<false>},
    {"endswith", starts_with<true>},
    {"replace", replace_method},
    {"upper", cased<Case::kUpper>},
    {"lower", cased<Case::kLower>},
    {"capitalize", capitalize_method},
    {"join", join},
    {"find", find},
    {"format", format},
    {"isdigit", isdigit},
};

}  // namespace

std::span<const Method> string_methods() {
  return kMethods;
}

}  // namespace ft::jinja
