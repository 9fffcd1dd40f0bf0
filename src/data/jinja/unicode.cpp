// Case mappings and character classes of code points. Cases are exact for ASCII, Latin-1, Latin
// Extended-A, Greek, Cyrillic, Armenian and Vietnamese; letters of other scripts stay as they are,
// and so do the rules of context (final sigma, title case of digraphs): templates change the case
// of role and tool names, hardly of anything else.
#include <algorithm>
#include <iterator>

#include "data/jinja/text.h"
#include "data/utf8.h"

namespace ft::jinja {
namespace {

/// Upper case letters first..last in steps; the lower case is `offset` further.
struct Letters {
  char32_t first, last, step, offset;
};
constexpr Letters kLetters[] = {
    {'A', 'Z', 1, 32},     {0xc0, 0xd6, 1, 32},   {0xd8, 0xde, 1, 32},    {0x100, 0x12e, 2, 1},
    {0x132, 0x136, 2, 1},  {0x139, 0x147, 2, 1},  {0x14a, 0x176, 2, 1},   {0x179, 0x17d, 2, 1},
    {0x1a0, 0x1a0, 1, 1},  {0x1af, 0x1af, 1, 1},  {0x386, 0x386, 1, 38},  {0x388, 0x38a, 1, 37},
    {0x38c, 0x38c, 1, 64}, {0x38e, 0x38f, 1, 63}, {0x391, 0x3a1, 1, 32},  {0x3a3, 0x3ab, 1, 32},
    {0x400, 0x40f, 1, 80}, {0x410, 0x42f, 1, 32}, {0x460, 0x480, 2, 1},   {0x48a, 0x4be, 2, 1},
    {0x4d0, 0x52e, 2, 1},  {0x531, 0x556, 1, 48}, {0x1e00, 0x1e94, 2, 1}, {0x1ea0, 0x1efe, 2, 1},
};

bool within(char32_t p, char32_t first, const Letters& l) {
  return p >= first && p - first <= l.last - l.first && (p - first) % l.step == 0;
}
char32_t upper(char32_t p) {
  if (p == 0xff) return 0x178;
  for (const Letters& l : kLetters)
    if (within(p, l.first + l.offset, l)) return p - l.offset;
  return p == 0x3c2 ? 0x3a3 : p;
}
char32_t lower(char32_t p) {
  if (p == 0x178) return 0xff;
  for (const Letters& l : kLetters)
    if (within(p, l.first, l)) return p + l.offset;
  return p;
}

/// `choose(code point before, is the first)` says which case a code point gets; marks are kept.
template <typename Choose>
std::string map_text(std::string_view text, Choose choose) {
  std::string out;
  out.reserve(text.size());
  char32_t before = U' ';
  bool first = true;
  for (size_t at = 0; at < text.size();) {
    if (is_mark(text[at])) {
      out += text[at++];
      continue;
    }
    const char32_t p = next_point(text, at);
    const Case wanted = choose(before, first);
    if (p == 0xdf && wanted == Case::kUpper) {
      out += "SS";
    } else {
      append_point(out, wanted == Case::kUpper ? upper(p) : lower(p));
    }
    before = p;
    first = false;
  }
  return out;
}

}  // namespace

bool is_space(char32_t p) {
  return (p >= 0x09 && p <= 0x0d) || (p >= 0x1c && p <= 0x20) || p == 0x85 || p == 0xa0 ||
         p == 0x1680 || (p >= 0x2000 && p <= 0x200a) || p == 0x2028 || p == 0x2029 || p == 0x202f ||
         p == 0x205f || p == 0x3000;
}

bool is_printable(char32_t p) {
  static constexpr std::pair<char32_t, char32_t> kHidden[] = {
      {0, 0x1f},        {0x7f, 0xa0},     {0xad, 0xad},       {0x600, 0x605},
      {0x61c, 0x61c},   {0x6dd, 0x6dd},   {0x70f, 0x70f},     {0x1680, 0x1680},
      {0x180e, 0x180e}, {0x2000, 0x200f}, {0x2028, 0x202f},   {0x205f, 0x206f},
      {0x3000, 0x3000}, {0xd800, 0xf8ff}, {0xfeff, 0xfeff},   {0xfdd0, 0xfdef},
      {0xfff0, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0xe00ff}, {0xe01f0, 0x10ffff}};
  return std::none_of(std::begin(kHidden), std::end(kHidden),
                      [p](const auto& range) { return p >= range.first && p <= range.second; });
}

std::string to_case(std::string_view text, Case wanted) {
  return map_text(text, [wanted](char32_t, bool) { return wanted; });
}

std::string capitalize(std::string_view text) {
  return map_text(text, [](char32_t, bool first) { return first ? Case::kUpper : Case::kLower; });
}

std::string title_words(std::string_view text) {
  return map_text(text, [](char32_t before, bool) {
    const bool begins = is_space(before) || before == '-' || before == '(' || before == '{' ||
                        before == '[' || before == '<';
    return begins ? Case::kUpper : Case::kLower;
  });
}

}  // namespace ft::jinja
