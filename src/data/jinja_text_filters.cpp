// Filters that make text. What is no string is printed first, as jinja2 does.
#include <algorithm>

#include "data/jinja_builtins.h"

namespace ft::jinja {
namespace {

std::string printed(Runtime& runtime, const Value& v) {
  return to_text(v, runtime.budget);
}

template <Case wanted>
Value cased(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("upper/lower", args, {});
  return to_case(printed(runtime, input), wanted);
}

Value capitalize_filter(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("capitalize", args, {});
  const std::string text = printed(runtime, input);
  return capitalize(text);
}

/// Unlike str.title(): a word begins after blanks, hyphens and opening brackets only.
Value title_filter(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("title", args, {});
  const std::string text = printed(runtime, input);
  return title_words(text);
}

Value trim(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("trim", args, {"chars"});
  std::optional<std::string> chars;
  if (bound[0] && !bound[0]->is_none()) chars = bound.text(0, "");
  return strip(printed(runtime, input), chars, 'b');
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
  for (const char c : printed(runtime, input)) {
    switch (c) {
      case '&':
        out.append("&amp;");
        break;
      case '<':
        out.append("&lt;");
        break;
      case '>':
        out.append("&gt;");
        break;
      case '"':
        out.append("&#34;");
        break;
      case '\'':
        out.append("&#39;");
        break;
      default:
        out.append(1, c);
    }
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
  const auto lines = split_lines(printed(runtime, input) + "\n", false);
  runtime.budget.work(lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n");
    if (i == 0 ? bound.truth(1, false) : blank || !lines[i].empty()) out.append(by);
    out.append(lines[i]);
  }
  return out.take();
}

Value center(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("center", args, {"width"});
  const Value text = printed(runtime, input);
  Args width;
  width.positional.emplace_back(bound.integer(0, 80));
  return find_method(text, "center")->apply(runtime, text, width);
}

Value format(Runtime& runtime, const Value& input, const Args& args) {
  if (!args.named.empty() && !args.positional.empty())
    raise("can't handle positional and keyword arguments at the same time");
  if (args.named.empty())
    return format_percent(runtime, printed(runtime, input),
                          Value::list(runtime.budget, args.positional, Form::kTuple));
  std::vector<std::pair<Value, Value>> values;
  for (const auto& [name, value] : args.named) values.emplace_back(Value(name), value);
  return format_percent(runtime, printed(runtime, input),
                        Value::dict(runtime.budget, std::move(values)));
}

Value truncate(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("truncate", args, {"length", "killwords", "end", "leeway"});
  const std::string raw = printed(runtime, input), end = bound.text(2, "...");
  const Text text(raw);
  const int64_t wanted = bound.integer(0, 255), leeway = bound.integer(3, 5);
  const auto tail = static_cast<int64_t>(num_points(end));
  if (wanted < tail) raise("expected length >= ", tail, ", got ", wanted);
  const auto count = static_cast<int64_t>(num_points(text.plain()));
  if (leeway >= count || count <= wanted + leeway) return raw;
  size_t cut = offset_of(text.plain(), static_cast<size_t>(wanted - tail));
  if (!bound.truth(1, false)) {
    const size_t blank = text.plain().substr(0, cut).rfind(' ');
    if (blank != std::string_view::npos) cut = blank;
  }
  return text.cut(0, cut) + end;
}

constexpr Filter kFilters[] = {
    {"capitalize", capitalize_filter},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"forceescape", escape},
    {"format", format},
    {"indent", indent},
    {"lower", cased<Case::kLower>},
    {"replace", replace_filter},
    {"safe", string_filter},
    {"string", string_filter},
    {"title", title_filter},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", cased<Case::kUpper>},
};

}  // namespace

std::span<const Filter> text_filters() {
  return kFilters;
}

}  // namespace ft::jinja
