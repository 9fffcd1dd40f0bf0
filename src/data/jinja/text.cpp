// UTF-8 and marks; see text.h.
#include "data/jinja/text.h"

#include <algorithm>
#include <cstring>

#include "data/utf8.h"

namespace ft::jinja {
bool has_marks(std::string_view text) {
  return std::any_of(text.begin(), text.end(), is_mark);
}

std::string without_marks(std::string_view text) {
  std::string out(text);
  std::erase_if(out, is_mark);
  return out;
}

Text::Text(std::string_view raw) : plain_(raw) {
  if (!has_marks(raw)) return;
  storage_.reserve(raw.size());
  for (const char c : raw) {
    if (is_mark(c)) {
      marks_.emplace_back(storage_.size(), c);
    } else {
      storage_ += c;
    }
  }
  plain_ = storage_;
}

std::string Text::cut(size_t begin, size_t end) const {
  std::string out;
  size_t done = begin;
  auto next = std::lower_bound(marks_.begin(), marks_.end(), begin,
                               [](const auto& m, size_t at) { return m.first < at; });
  for (; next != marks_.end() && next->first <= end; ++next) {
    const auto [at, mark] = *next;
    // A mark between two parts goes to one of them: begins to the right one, the others to the
    // left. At the ends of the whole text every mark stays.
    const bool from_left = mark != kBeginMark;
    const bool after = at > begin || (at == begin && (!from_left || begin == 0));
    const bool before = at < end || (at == end && (from_left || end == plain_.size()));
    if (!after || !before) continue;
    out += plain_.substr(done, at - done);
    out += mark;
    done = at;
  }
  return out += plain_.substr(done, end - done);
}

size_t num_points(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

size_t offset_of(std::string_view text, size_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) {
    at += width(text[at]);
    --index;
  }
  return std::min(at, text.size());
}

char32_t next_point(std::string_view text, size_t& at) {
  const CodePoint point = decode_point(text, at);
  at += point.length;
  return point.value;
}

size_t previous(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (text[at] & 0xc0) == 0x80);
  return at;
}

size_t find_text(std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const void* found =
      ::memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data())
               : std::string_view::npos;
}

}  // namespace ft::jinja
