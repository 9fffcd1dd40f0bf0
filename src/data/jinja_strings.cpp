// The methods of str, and the text functions that filters share with them. Searching looks at the
// text without marks; parts are cut out with them.
#include <algorithm>

#include "data/jinja_builtins.h"

namespace ft::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

Value strings(Runtime& runtime, const std::vector<std::string>& parts, Form form = Form::kList) {
  std::vector<Value> items;
  runtime.budget.allocate(parts.size() * 64);
  for (const std::string& part : parts) items.emplace_back(part);
  return Value::list(runtime.budget, std::move(items), form);
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

/// Splits at white space, from the left or (`right`) from the right.
std::vector<std::string> split_space(const Text& text, int64_t most, bool right) {
  const std::string_view plain = text.plain();
  std::vector<std::pair<size_t, size_t>> words;
  for (size_t at = 0; at < plain.size();) {
    const size_t begin = at;
    if (is_space(next_point(plain, at))) continue;
    size_t end = at;
    while (at < plain.size() && !is_space(next_point(plain, at))) end = at;
    words.emplace_back(begin, end);
    check_parts(words.size());
  }
  std::vector<std::string> out;
  const size_t count = words.size();
  const size_t limit = most < 0 ? count : static_cast<size_t>(most);
  // What is over the limit stays one part: the end of the text, or its begin.
  if (right && count > limit && count > 0) {
    out.push_back(text.cut(0, words[count - limit - 1].second));
    for (size_t i = count - limit; i < count; ++i)
      out.push_back(text.cut(words[i].first, words[i].second));
    out[0] = strip(out[0], std::nullopt, 'r');
    return out;
  }
  for (size_t i = 0; i < count; ++i) {
    if (i == limit) {
      out.push_back(text.cut(words[i].first, plain.size()));
      break;
    }
    out.push_back(text.cut(words[i].first, words[i].second));
  }
  return out;
}

std::vector<std::string> split_at(const Text& text, const std::string& separator, int64_t most,
                                  bool right) {
  if (separator.empty()) raise("empty separator");
  const std::string_view plain = text.plain();
  std::vector<std::string> out;
  const auto room = [&] { return most < 0 || static_cast<int64_t>(out.size()) < most; };
  if (right) {
    // Searching both strings backwards keeps it linear.
    const std::string reversed(plain.rbegin(), plain.rend());
    const std::string needle(separator.rbegin(), separator.rend());
    size_t end = plain.size();
    for (size_t at; room() && (at = find_text(reversed, needle, plain.size() - end)) != kNone;) {
      const size_t after = plain.size() - at;
      out.push_back(text.cut(after, end));
      check_parts(out.size());
      end = after - separator.size();
    }
    out.push_back(text.cut(0, end));
    std::reverse(out.begin(), out.end());
    return out;
  }
  size_t begin = 0;
  for (size_t at; room() && (at = find_text(plain, separator, begin)) != kNone;) {
    out.push_back(text.cut(begin, at));
    check_parts(out.size());
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
  if (!bound[0] || bound[0]->is_none()) return strings(runtime, split_space(text, most, right));
  return strings(runtime, split_at(text, bound.text(0, ""), most, right));
}

Value splitlines(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("splitlines", args, {"keepends"});
  return strings(runtime, split_lines(self_text(runtime, self), bound.truth(0, false)));
}

/// [start, end) in code points of the arguments 1 and 2, as bytes of the plain text.
std::pair<size_t, size_t> window(std::string_view plain, const Bound& bound) {
  const auto count = static_cast<int64_t>(num_points(plain));
  const auto place = [&](size_t i, int64_t otherwise) {
    int64_t at = bound.integer(i, otherwise);
    if (at < 0) at = std::max<int64_t>(at + count, 0);
    return at > count ? plain.size() + 1 : offset_of(plain, static_cast<size_t>(at));
  };
  const size_t begin = bound[1] ? place(1, 0) : 0;
  const size_t end = bound[2] ? std::min(place(2, count), plain.size()) : plain.size();
  return {begin, end};
}

template <bool at_end>
Value starts_with(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound(at_end ? "endswith" : "startswith", args, {"prefix", "start", "end"}, 1);
  const Text text(self_text(runtime, self));
  const auto [begin, end] = window(text.plain(), bound);
  if (begin > end) return false;
  const std::string_view part = text.plain().substr(begin, end - begin);
  const auto matches = [&](const Value& v) {
    if (!v.is_string())
      raise(at_end ? "endswith" : "startswith", " first arg must be str or a tuple of str, not ",
            v.type_name());
    const Text wanted(v.string());
    return at_end ? part.ends_with(wanted.plain()) : part.starts_with(wanted.plain());
  };
  if (!bound[0]->is_seq() || bound[0]->seq().form == Form::kList) return matches(*bound[0]);
  const auto& options = bound[0]->seq().items;
  runtime.budget.work(options.size());
  return std::any_of(options.begin(), options.end(), matches);
}

/// Index in code points, or -1.
int64_t find_index(Runtime& runtime, const Value& self, const Bound& bound, bool right) {
  const Text text(self_text(runtime, self)), wanted(needed(bound, 0));
  const auto [begin, end] = window(text.plain(), bound);
  if (begin > end) return -1;
  const std::string_view part = text.plain().substr(0, end);
  const size_t at = right ? rfind_text(part.substr(begin), wanted.plain())
                          : find_text(part, wanted.plain(), begin);
  if (at == kNone) return -1;
  return static_cast<int64_t>(num_points(part.substr(0, right ? begin + at : at)));
}

template <bool right>
Value find(Runtime& runtime, const Value& self, const Args& args) {
  return find_index(runtime, self, Bound("find", args, {"sub", "start", "end"}, 1), right);
}

template <bool right>
Value index(Runtime& runtime, const Value& self, const Args& args) {
  const int64_t at =
      find_index(runtime, self, Bound("index", args, {"sub", "start", "end"}, 1), right);
  if (at < 0) raise("substring not found");
  return at;
}

Value count(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("count", args, {"sub", "start", "end"}, 1);
  const Text text(self_text(runtime, self)), wanted(needed(bound, 0));
  const auto [begin, end] = window(text.plain(), bound);
  if (begin > end) return int64_t{0};
  const std::string_view part = text.plain().substr(begin, end - begin);
  if (wanted.plain().empty()) return static_cast<int64_t>(num_points(part)) + 1;
  int64_t found = 0;
  for (size_t at = 0; (at = find_text(part, wanted.plain(), at)) != kNone;
       at += wanted.plain().size())
    ++found;
  return found;
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

Value title_method(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("title", args, {});
  return title(self_text(runtime, self));
}

Value capitalize_method(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("capitalize", args, {});
  return capitalize(self_text(runtime, self));
}

Value swapcase(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("swapcase", args, {});
  return swap_case(self_text(runtime, self));
}

enum class Class { kDigit, kLetter, kLetterOrDigit, kSpace, kLower, kUpper };

/// isdigit() and its like: all characters are of the class, and there is one.
template <Class wanted>
Value is_class(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("str test", args, {});
  const Text text(self_text(runtime, self));
  bool any = false;
  for (size_t at = 0; at < text.plain().size();) {
    const size_t begin = at;
    const char32_t p = next_point(text.plain(), at);
    const bool digit = p >= '0' && p <= '9';
    bool is = false, counts = true;
    if (wanted == Class::kDigit) is = digit;
    if (wanted == Class::kLetter) is = is_letter(p);
    if (wanted == Class::kLetterOrDigit) is = digit || is_letter(p);
    if (wanted == Class::kSpace) is = is_space(p);
    if (wanted == Class::kLower || wanted == Class::kUpper) {
      const std::string_view c = text.plain().substr(begin, at - begin);
      counts = is_cased(p);  // others do not matter
      is = !counts || to_case(c, wanted == Class::kLower ? Case::kLower : Case::kUpper) == c;
    }
    if (!is) return false;
    any |= counts;
  }
  return any;
}

Value format(Runtime& runtime, const Value& self, const Args& args) {
  return format_braces(runtime, self_text(runtime, self), args);
}

template <char align>
Value just(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("ljust/rjust/center/zfill", args, {"width", "fillchar"}, 1);
  const auto have = static_cast<int64_t>(length(self, runtime.budget));
  const int64_t wanted = bound.integer(0, 0);
  if (wanted <= have) return self;
  if (wanted > static_cast<int64_t>(kMaxText))
    raise("a text grows beyond ", kMaxText >> 20, " MiB");
  const auto missing = static_cast<size_t>(wanted - have);
  const std::string fill = align == '0' ? "0" : bound.text(1, " ");
  if (num_points(fill) != 1) raise("The fill character must be exactly one character long");
  const std::string& text = self.string();
  // Python's center() puts the odd blank to the left when the width is odd.
  size_t left = align == '<'   ? 0
                : align == '^' ? missing / 2 + (missing & 1 & static_cast<size_t>(wanted))
                               : missing;
  Builder out(runtime.budget);
  const size_t sign = align == '0' && !text.empty() && (text[0] == '-' || text[0] == '+');
  out.append(std::string_view(text).substr(0, sign));
  for (size_t i = 0; i < left; ++i) out.append(fill);
  out.append(std::string_view(text).substr(sign));
  for (; left < missing; ++left) out.append(fill);
  return out.take();
}

template <bool right>
Value partition(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("partition", args, {"sep"}, 1);
  const Text text(self_text(runtime, self)), separator(needed(bound, 0));
  if (separator.plain().empty()) raise("empty separator");
  const size_t size = text.plain().size();
  const size_t at = right ? rfind_text(text.plain(), separator.plain())
                          : find_text(text.plain(), separator.plain());
  std::vector<std::string> parts(3);
  if (at == kNone) {
    parts[right ? 2 : 0] = self.string();
  } else {
    const size_t end = at + separator.plain().size();
    parts = {text.cut(0, at), text.cut(at, end), text.cut(end, size)};
  }
  return strings(runtime, parts, Form::kTuple);
}

template <bool at_end>
Value remove_affix(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("removeprefix/removesuffix", args, {"affix"}, 1);
  const Text text(self_text(runtime, self)), affix(needed(bound, 0));
  const std::string_view plain = text.plain();
  const size_t size = affix.plain().size();
  if (!at_end && plain.starts_with(affix.plain())) return text.cut(size, plain.size());
  if (at_end && plain.ends_with(affix.plain())) return text.cut(0, plain.size() - size);
  return self;
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
    {"casefold", cased<Case::kLower>},
    {"title", title_method},
    {"capitalize", capitalize_method},
    {"swapcase", swapcase},
    {"join", join},
    {"find", find<false>},
    {"rfind", find<true>},
    {"index", index<false>},
    {"rindex", index<true>},
    {"count", count},
    {"format", format},
    {"isdigit", is_class<Class::kDigit>},
    {"isdecimal", is_class<Class::kDigit>},
    {"isnumeric", is_class<Class::kDigit>},
    {"isalpha", is_class<Class::kLetter>},
    {"isalnum", is_class<Class::kLetterOrDigit>},
    {"isspace", is_class<Class::kSpace>},
    {"islower", is_class<Class::kLower>},
    {"isupper", is_class<Class::kUpper>},
    {"ljust", just<'<'>},
    {"rjust", just<'>'>},
    {"center", just<'^'>},
    {"zfill", just<'0'>},
    {"partition", partition<false>},
    {"rpartition", partition<true>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
};

}  // namespace

std::span<const Method> string_methods() {
  return kMethods;
}

}  // namespace ft::jinja
