// Normalised text and where its bytes came from.
#include "data/normalizer.h"

#include <gtest/gtest.h>

namespace ft {
namespace {

AlignedText normalized(const char* json, const std::string& text) {
  return Normalizer::parse(parse_json(json, "test"), "test")
      .apply(AlignedText(text, 0, text.size()));
}

std::string nfc(const std::string& text) {
  return std::string(normalized(R"({"type": "NFC"})", text).view());
}

TEST(Normalizer, FormC) {
  EXPECT_EQ(nfc("plain"), "plain");
  EXPECT_EQ(nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(nfc("\u1112\u1161\u11ab"), "\ud55c");        // Hangul by arithmetic
  EXPECT_EQ(nfc("q\u0307\u0323"), "q\u0323\u0307");      // marks are put in order
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093c");              // never composed again
  EXPECT_EQ(nfc("\u212b"), "\u00c5");                    // a singleton
  EXPECT_EQ(nfc("\u0061\u05ae\u0300"), "\u00e0\u05ae");  // not blocked by another class
  EXPECT_EQ(nfc("\u1100\u00e9\u1161"), "\u1100\u00e9\u1161");
  EXPECT_EQ(std::string(normalized(R"({"type": "NFD"})", "\u1e69").view()), "s\u0323\u0307");
}

TEST(Normalizer, CompatibilityForms) {
  const auto form = [](const char* json, const char* text) {
    return std::string(normalized(json, text).view());
  };
  EXPECT_EQ(form(R"({"type": "NFKC"})", "\ufb01\uff21\u2460"), "fiA1");
  EXPECT_EQ(form(R"({"type": "NFKC"})", "\uff76\uff9e"), "\u30ac");  // half-width KA and voicing
  EXPECT_EQ(form(R"({"type": "NFKD"})", "\u1e9b\u0323"), "s\u0323\u0307");
}

TEST(Normalizer, LongRunsOfMarksTakeNoLonger) {
  std::string text = "a";
  for (int i = 0; i < 200000; ++i) text += i % 2 ? "\u0323" : "\u0307";
  const std::string out = nfc(text);
  EXPECT_EQ(out.substr(0, 5), "\u1ea1\u0323");
  EXPECT_EQ(out.size(), text.size());  // a and the first mark become one of three bytes
}

TEST(Normalizer, ChangedPartsKeepTheirOrigin) {
  const AlignedText text = normalized(R"({"type": "NFC"})", "ae\u0301b");
  EXPECT_EQ(text.view(), "a\u00e9b");
  EXPECT_EQ(text.origin_begin(1), 1u);
  EXPECT_EQ(text.origin_end(2), 4u);
  EXPECT_EQ(text.origin_begin(3), 4u);
}

TEST(Normalizer, StepsOfLlama2) {
  const AlignedText text = normalized(R"({"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "_"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "__"}]})",
                                      "a b");
  EXPECT_EQ(text.view(), "_a__b");
  EXPECT_EQ(text.origin_begin(0), 0u);
  EXPECT_EQ(text.origin_end(0), 0u);
  EXPECT_EQ(text.origin_begin(3), 1u);
  EXPECT_EQ(text.origin_end(3), 2u);
  EXPECT_EQ(text.origin_begin(4), 2u);
}

TEST(Normalizer, Strip) {
  EXPECT_EQ(normalized(R"({"type": "Strip"})", " \u3000a b\n").view(), "a b");
  EXPECT_EQ(normalized(R"({"type": "Strip", "strip_left": false})", " a ").view(), " a");
  EXPECT_EQ(normalized(R"({"type": "Strip"})", "  ").view(), "");
}

}  // namespace
}  // namespace ft
