// YAML text to nodes: what is kept, and what has to be refused although yaml-cpp lets it pass.
#include "config/yaml.h"

#include <gtest/gtest.h>

namespace ft {
namespace {

YamlNode parse(std::string_view text) {
  std::vector<YamlProblem> problems;
  YamlNode node = parse_yaml(text, problems);
  EXPECT_TRUE(problems.empty()) << text << "\n" << (problems.empty() ? "" : problems[0].what);
  return node;
}

TEST(Yaml, NodesRememberTextAndLine) {
  const YamlNode root =
      parse("a: 010\n\"b\": \"x\"\nc:\n  - 1\n  - {d: ~}\ne: |\n  two\n  lines\nf:\n");
  ASSERT_TRUE(root.is_map());
  ASSERT_EQ(root.items.size(), 5u);
  EXPECT_TRUE(root.items[0].is_plain());
  EXPECT_EQ(root.items[0].text, "010");
  EXPECT_EQ(root.items[1].kind, YamlNode::Kind::kQuoted);
  EXPECT_EQ(root.items[1].key, "b");
  EXPECT_EQ(root.items[2].line, 3);  // of the key, although the value begins a line below
  EXPECT_EQ(root.items[2].items[1].line, 5);
  EXPECT_TRUE(root.items[2].items[1].items[0].is_null());
  EXPECT_EQ(root.items[3].text, "two\nlines\n");
  EXPECT_TRUE(root.items[4].is_null());
  EXPECT_TRUE(parse("").is_null());
  EXPECT_TRUE(parse("# nothing\n").is_null());
  EXPECT_EQ(parse("\xef\xbb\xbf"
                  "a: 'it''s'\r\nb: 1\r\n")
                .items[0]
                .text,
            "it's");
  EXPECT_EQ(parse("---\na: 1\n...\n").items[0].text, "1");
  EXPECT_EQ(parse("a: \"\xc3\xa9\\u00e9\"").items[0].text, "\xc3\xa9\xc3\xa9");
}

TEST(Yaml, RefusesWithLineAndOwnWords) {
  struct Case {
    std::string text;
    int line;
    std::string_view says;
  };
  const Case cases[] = {
      {"a: 1\nb: \"cut", 2, "never closed"},
      {"a: 1\nb: \"cut\n", 2, "never closed"},
      {"a: 'cut\n", 1, "never closed"},
      {"\xef\xbb\xbf"
       "a: 1\nb: \"cut\n",
       2, "never closed"},
      {"a: 'it''", 1, "never closed"},
      {"a: \"x\\\"", 1, "never closed"},
      {"a: {b: \"}", 1, "never closed"},
      {"a: 1\n---\nb: 2\n", 2, "second document"},
      {"- a\nb: c\n", 2, "second document"},
      {"x: &k {a: 1}\n", 1, "anchors"},
      {"x: 1\ny: *k\n", 2, "anchors"},
      {"x: 1\n<<: {a: 1}\n", 2, "merge keys"},
      {"a: !!int 3\n", 1, "tags"},
      {"a: ! x\n", 1, "tags"},
      {"a: !<tag:x> [1]\n", 1, "tags"},
      {"a: 1\nb: \xff\n", 2, "UTF-8"},
      {"a: \xed\xa0\x80\n", 1, "UTF-8"},
      {std::string("a: 1\n\0b: 1", 10), 2, "control character"},
      {"a: \x1b[2J\n", 1, "control character"},
      {"a: \"\\0\"\n", 1, "NUL"},
      {"a:\n\tb: 1\n", 2, ""},
      {"a: b: c\n", 1, "in quotes"},
      {"a: [1, 2\n", 1, "without its ]"},
      {"a: {b: 1\n", 1, "without its }"},
      {"a:\n  b: 1\n c: 2\n", 3, "indentation"},
      {"a: \"\\q\"\n", 1, "escape"},
      {"? [a]\n: b\n", 1, "not a name"},
      {"~: b\n", 1, "not a name"},
      {"a: @x\n", 1, "not valid YAML"},
  };
  for (const Case& c : cases) {
    std::vector<YamlProblem> problems;
    parse_yaml(c.text, problems);
    ASSERT_EQ(problems.size(), 1u) << c.text;
    EXPECT_EQ(problems[0].line, c.line) << c.text << problems[0].what;
    EXPECT_NE(problems[0].what.find(c.says), std::string::npos) << c.text << problems[0].what;
  }
}

TEST(Yaml, RepeatedKeysAtEveryLevel) {
  std::vector<YamlProblem> problems;
  parse_yaml("a: 1\nb:\n  c: 1\n  c: 2\na: 2\nd: {x: 1, x: 1}\n", problems);
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_EQ(problems[0].key, "b.c");
  EXPECT_EQ(problems[0].line, 4);
  EXPECT_EQ(problems[1].key, "a");
  EXPECT_EQ(problems[1].line, 5);
  EXPECT_EQ(problems[2].key, "d.x");
}

TEST(Yaml, DeepNestingIsAnErrorNotACrash) {
  std::string blocks;
  for (int i = 0; i < 1000; ++i) blocks += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  for (const std::string& text : {std::string(100000, '['), std::string(100000, '{'), blocks,
                                  "a: " + std::string(50000, '[') + std::string(50000, ']')}) {
    std::vector<YamlProblem> problems;
    parse_yaml(text, problems);
    ASSERT_EQ(problems.size(), 1u);
    EXPECT_NE(problems[0].what.find("nested deeper"), std::string::npos) << problems[0].what;
  }
}

// Any cut or altered byte gives a node or a problem, and ends.
TEST(Yaml, SurvivesMutations) {
  const std::string text =
      "a: \"x\\u00e9\" # c\nb: [1, {c: 'd'}]\ne: |\n  f\ng:\n  - h: ~\n  - >-\n    i\n";
  for (size_t i = 0; i <= text.size(); ++i) {
    std::vector<YamlProblem> problems;
    parse_yaml(text.substr(0, i), problems);
    for (const char c : {'"', '\'', '[', '}', ':', '\n', '&', '*', '!', '%', '\t', '-', '?', '|'}) {
      std::string changed = text;
      changed.insert(i, 1, c);
      parse_yaml(changed, problems);
    }
  }
}

}  // namespace
}  // namespace ft
