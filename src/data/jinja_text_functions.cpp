// Text functions that methods of str and filters share.
#include <algorithm>

#include "data/jinja_builtins.h"

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

void check_parts(size_t count) {
  if (count > kMaxItems) raise("a list of more than ", kMaxItems, " elements");
}

std::vector<std::string> split_lines(const std::string& raw, bool keep_ends) {
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
    out.push_back(text.cut(begin, keep_ends ? at : end));
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
    if (item.is_string()) {
      out.append(item.string());
    } else if (any) {
      out.append(to_text(item, runtime.budget));
    } else {
      raise("sequence item: expected str instance, ", item.type_name(), " found");
    }
  }
  return out.take();
}

}  // namespace ft::jinja
