// UTF-8 and marks; see jinja_text.h.
#include "data/jinja_text.h"

#include <algorithm>
#include <cstring>

namespace ft::jinja {
namespace {

/// Length of the valid UTF-8 sequence at `at`, 0 when it is none. Surrogates and overlong forms are
/// not valid.
size_t sequence_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || at + n > text.size()) return 0;
  for (size_t i = 1; i < n; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if (lead == 0xe0 && byte(1) < 0xa0) return 0;
  if (lead == 0xed && byte(1) > 0x9f) return 0;
  if (lead == 0xf0 && byte(1) < 0x90) return 0;
  if (lead == 0xf4 && byte(1) > 0x8f) return 0;
  return n;
}

}  // namespace

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

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t n = sequence_at(text, at);
    out += n == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(at, n);
    at += n == 0 ? 1 : n;
  }
  return out;
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
  const size_t n = std::min(width(text[at]), text.size() - at);
  const auto lead = static_cast<unsigned char>(text[at]);
  char32_t point = n == 1 ? lead : lead & (0xffu >> (n + 1));
  for (size_t i = 1; i < n; ++i)
    point = point << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3f);
  at += n;
  return point;
}

size_t previous(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (text[at] & 0xc0) == 0x80);
  return at;
}

void append_point(std::string& out, char32_t point) {
  const auto put = [&](char32_t byte) { out += static_cast<char>(byte); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xc0 | point >> 6);
    put(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    put(0xe0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3f));
    put(0x80 | (point & 0x3f));
  } else {
    put(0xf0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3f));
    put(0x80 | (point >> 6 & 0x3f));
    put(0x80 | (point & 0x3f));
  }
}

size_t find_text(std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const void* found =
      ::memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data())
               : std::string_view::npos;
}

size_t rfind_text(std::string_view text, std::string_view wanted) {
  if (wanted.empty()) return text.size();
  // Searching both strings backwards keeps it linear.
  const std::string reversed(text.rbegin(), text.rend());
  const std::string needle(wanted.rbegin(), wanted.rend());
  const size_t at = find_text(reversed, needle);
  return at == std::string_view::npos ? at : text.size() - at - wanted.size();
}

}  // namespace ft::jinja
