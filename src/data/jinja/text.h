// Strings of the template engine: UTF-8 seen as sequences of code points, as Python sees them, with
// invisible marks inside.
//
// A mark is a byte that occurs in no UTF-8 text (0xfd to 0xff). Marks say where text comes from: a
// break stands inside what a user typed that looks like a control token, a begin and an end enclose
// a
// {% generation %} block. They have no width: length, comparison, search and slicing do not see
// them, and they travel with the characters beside them, so a template renders the same with and
// without.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/jinja/limits.h"

namespace ft::jinja {

inline constexpr char kBreakMark = '\xff';
inline constexpr char kBeginMark = '\xfe';
inline constexpr char kEndMark = '\xfd';

inline bool is_mark(char c) {
  return static_cast<unsigned char>(c) >= 0xfd;
}
bool has_marks(std::string_view text);
std::string without_marks(std::string_view text);

/// A string with its marks set aside. Offsets below are bytes of plain(). The raw text must outlive
/// it.
class Text {
 public:
  explicit Text(std::string_view raw);
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;
  std::string_view plain() const { return plain_; }
  /// The part [begin, end) with its marks. A break belongs to the character before it.
  std::string cut(size_t begin, size_t end) const;

 private:
  std::string storage_;
  std::string_view plain_;
  std::vector<std::pair<size_t, char>> marks_;
};

/// A growing string that never passes kMaxText.
class Builder {
 public:
  explicit Builder(Budget& budget) : budget_(budget) {}
  void append(std::string_view part) {
    reserve(part.size());
    out_ += part;
  }
  void append(size_t count, char c) {
    reserve(count);
    out_.append(count, c);
  }
  size_t size() const { return out_.size(); }
  std::string take() {
    budget_.allocate(out_.size());
    budget_.scan(out_.size());
    return std::move(out_);
  }

 private:
  Budget& budget_;
  std::string out_;
  void reserve(size_t more) const {
    if (more > kMaxText || out_.size() + more > kMaxText)
      raise("a text grows beyond ", kMaxText >> 20, " MiB");
  }
};

// Of valid UTF-8 without marks, unless said otherwise.

/// Bytes of the code point that starts with `lead`.
inline size_t width(char lead) {
  const auto c = static_cast<unsigned char>(lead);
  return c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}
size_t num_points(std::string_view text);
/// Byte offset of the code point with that index; the size when there are fewer.
size_t offset_of(std::string_view text, size_t index);
/// The code point at a byte offset, which moves past it.
char32_t next_point(std::string_view text, size_t& at);
/// Byte offset of the code point that ends before `at` (> 0).
size_t previous(std::string_view text, size_t at);

/// First occurrence from `from` on, npos if none. Linear in the worst case, unlike
/// string_view::find.
size_t find_text(std::string_view text, std::string_view wanted, size_t from = 0);

// Character classes and cases after Python's str (unicode.cpp).
bool is_space(char32_t point);
bool is_printable(char32_t point);
enum class Case { kLower, kUpper };
/// Marks are kept.
std::string to_case(std::string_view text, Case wanted);
/// str.capitalize().
std::string capitalize(std::string_view text);
/// The title filter of jinja2: a word begins after blanks, hyphens and opening brackets only.
std::string title_words(std::string_view text);

}  // namespace ft::jinja
