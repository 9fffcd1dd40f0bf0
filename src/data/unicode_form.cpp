// utf8proc decomposes and composes, stretch by stretch: from a character that can never combine
// with what stands before it to the next such character. Almost every stretch is one character that
// stays as it is. Marks are put in order here: utf8proc's own way takes quadratic time over a long
// run of them.
#include "data/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "data/utf8.h"

namespace ft {
namespace {

using Points = std::vector<utf8proc_int32_t>;

struct Form {
  bool composes;
  utf8proc_option_t decomposition;
};

Form parts_of(UnicodeForm form) {
  const bool is_compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  return {form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc,
          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                         (is_compatible ? UTF8PROC_COMPAT : 0))};
}

void decompose(uint32_t c, const Form& form, Points& out) {
  utf8proc_int32_t parts[32];  // the longest decomposition has 18
  int last_class = 0;
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 32,
                                             form.decomposition, &last_class);
  FT_INVARIANT(count >= 0 && count <= 32);
  out.insert(out.end(), parts, parts + count);
}

int combining_class(utf8proc_int32_t c) {
  return utf8proc_get_property(c)->combining_class;
}

/// What combines with the character before it is a mark, or a vowel or final consonant of Hangul;
/// `c` by what it decomposes to.
bool is_boundary(uint32_t c, const Form& form) {
  if (c < 0x300) return true;
  Points parts;
  decompose(c, form, parts);
  const utf8proc_int32_t first = parts.empty() ? 0 : parts[0];
  const utf8proc_category_t category = utf8proc_category(first);
  const bool is_mark = category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
                       category == UTF8PROC_CATEGORY_ME;
  const bool is_jamo = (first >= 0x1161 && first < 0x1176) || (first > 0x11a7 && first < 0x11c3);
  return !is_mark && !is_jamo;
}

void order_marks(Points& points) {
  const auto is_starter = [](utf8proc_int32_t c) { return combining_class(c) == 0; };
  for (auto at = points.begin(); at != points.end();) {
    at = std::find_if_not(at, points.end(), is_starter);
    const auto end = std::find_if(at, points.end(), is_starter);
    std::stable_sort(at, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    at = end;
  }
}

}  // namespace

AlignedText normalize_unicode(const AlignedText& text, UnicodeForm wanted) {
  const std::string_view view = text.view();
  const auto is_plain = [](char c) { return static_cast<uint8_t>(c) < 0x80; };
  if (std::all_of(view.begin(), view.end(), is_plain)) return text;
  const Form form = parts_of(wanted);
  AlignedText out;
  Points points;
  std::string spelled;
  for (size_t begin = 0; begin < view.size();) {
    points.clear();
    size_t end = begin;
    while (end < view.size()) {
      const CodePoint point = decode_point(view, end);
      if (end > begin && is_boundary(point.value, form)) break;
      decompose(point.value, form, points);
      end += point.length;
    }
    order_marks(points);
    auto count = static_cast<utf8proc_ssize_t>(points.size());
    if (form.composes)
      count = utf8proc_normalize_utf32(
          points.data(), count, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    spelled.clear();
    for (utf8proc_ssize_t i = 0; i < count; ++i)
      append_point(spelled, static_cast<uint32_t>(points[static_cast<size_t>(i)]));
    if (spelled == view.substr(begin, end - begin)) {
      out.append(text, begin, end);
    } else {
      out.append(spelled, text.origin_begin(begin), text.origin_end(end - 1));
    }
    begin = end;
  }
  return out;
}

}  // namespace ft
