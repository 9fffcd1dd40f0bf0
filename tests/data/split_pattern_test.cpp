// Patterns written for Oniguruma mean the same here, and no text or pattern hangs.
#include "data/split_pattern.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ft {
namespace {

std::vector<std::string> matches(const char* pattern, const std::string& text) {
  const SplitPattern compiled(pattern, SplitPattern::Syntax::kOniguruma, "test");
  std::vector<ByteRange> found;
  compiled.find_all(text, found);
  std::vector<std::string> parts;
  for (const auto [begin, end] : found) parts.push_back(text.substr(begin, end - begin));
  return parts;
}

using Parts = std::vector<std::string>;

TEST(SplitPattern, SpacesAreWhiteSpace) {
  EXPECT_EQ(matches("\\s+", "a\u3000\u0085b\u180e"), (Parts{"\u3000\u0085"}));
  EXPECT_EQ(matches("[^\\s]+", "a\u00a0b\u180e"), (Parts{"a", "b\u180e"}));
}

TEST(SplitPattern, RewritesOniguruma) {
  EXPECT_EQ(to_pcre("[\\w]\\h\\u4e00\\p{^Han}(?m:.)\\p{Letter}", "t"),
            "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}][0-9a-fA-F]\\x{4e00}\\P{sc:Han}(?s:.)\\p{L}");
  EXPECT_EQ(matches("(?i:'s|'ll)", "IT'S we'Ll"), (Parts{"'S", "'Ll"}));
  EXPECT_EQ(matches("^a$", "a\na"), (Parts{"a", "a"}));
  EXPECT_EQ(matches("\\p{N}{1,3}", "12345"), (Parts{"123", "45"}));
}

TEST(SplitPattern, EmptyMatchesMoveOn) {
  EXPECT_EQ(matches("x*", "ax\u4f60"), (Parts{"", "x", ""}));
}

TEST(SplitPattern, RefusesWhatItCannotRewrite) {
  for (const char* pattern : {"[a[bc]]", "[a&&b]", "[\\W]", "a{1,2}+", "(?~a)", "\\p{Nope}", "(",
                              "[]a]", "\\u12", "a)", "\\", "[a", "(?<n", "\\C"})
    EXPECT_THROW(matches(pattern, "a"), Error) << pattern;
}

TEST(SplitPattern, LongRunsNeitherOverflowNorHang) {
  const std::string run(1000000, 'a');
  EXPECT_EQ(matches("(?:a|b)+", run).size(), 1u);
  EXPECT_EQ(matches("\\s+(?!\\S)|\\s+", std::string(1000000, ' ') + "a").size(), 2u);
  EXPECT_THROW(matches("(a+)+(?=#)", run), Error);
  EXPECT_THROW(matches("(?:(?:a|a)(?:a|a))+(?=[#%])", run), Error);
}

}  // namespace
}  // namespace ft
