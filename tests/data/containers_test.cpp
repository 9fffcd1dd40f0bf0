#include <algorithm>

#include "base/files.h"
#include "data/dataset.h"
#include "parity.h"
#include "temporary_file.h"

namespace ft {
namespace {

std::string sample(const std::string& name) {
  return (test_data() / "samples" / name).string();
}

std::vector<std::string> lines_of(const std::vector<Row>& rows) {
  std::vector<std::string> lines;
  for (const Row& row : rows) lines.push_back(row.where.substr(row.where.rfind('/') + 1));
  return lines;
}

std::string error_for(const std::string& name, std::string_view content) {
  const TemporaryFile file(name, content);
  const std::string error = error_of([&] { read_rows({file.path()}); });
  return error.substr(error.rfind('/', error.find(name)) + 1);
}

TEST(Containers, JsonLinesKnowTheirLines) {
  const TemporaryFile file("a.jsonl",
                           "\xef\xbb\xbf{\"b\": 1, \"a\": {\"z\": null}}\r\n\r\n  \n{\"a\": [1]}");
  const auto rows = read_rows({file.path()});
  EXPECT_EQ(lines_of(rows), (std::vector<std::string>{"a.jsonl:1", "a.jsonl:4"}));
  EXPECT_EQ(rows[0].value.dump(), R"({"b": 1, "a": {"z": null}})");
}

TEST(Containers, JsonArraysKnowTheirLines) {
  const auto rows = read_rows({sample("sharegpt.json")});
  EXPECT_EQ(lines_of(rows),
            (std::vector<std::string>{"sharegpt.json:2", "sharegpt.json:9", "sharegpt.json:18",
                                      "sharegpt.json:19", "sharegpt.json:20"}));
  EXPECT_EQ(rows[4].value.get("conversations")->array()[0].get("value")->string(),
            "tab\tand \"quote\" ] }");
  const TemporaryFile lines("b.json", "{\"a\": 1}\n{\"a\": 2}\n");
  EXPECT_EQ(lines_of(read_rows({lines.path()})),
            (std::vector<std::string>{"b.json:1", "b.json:2"}));
}

TEST(Containers, SeveralFilesInOrder) {
  const auto rows = read_rows({sample("text.jsonl"), sample("alpaca.json")});
  ASSERT_EQ(rows.size(), 10u);
  EXPECT_TRUE(rows[5].where.ends_with("alpaca.json:1"));
}

TEST(Containers, BadJsonNamesTheLine) {
  EXPECT_TRUE(error_for("a.jsonl", "{}\n{\"a\": }\n").starts_with("a.jsonl:2: not valid JSON"));
  EXPECT_TRUE(error_for("a.jsonl", "{\"a\": NaN}").starts_with("a.jsonl:1: "));
  EXPECT_TRUE(error_for("a.jsonl", "{\"a\": \"\xff\"}").starts_with("a.jsonl:1: "));
  EXPECT_TRUE(error_for("a.jsonl", "{\"a\": 1, \"a\": 2}").starts_with("a.jsonl:1: duplicate key"));
  EXPECT_TRUE(error_for("a.jsonl", "[{}]").starts_with("a.jsonl:1: a list, an object is wanted"));
  EXPECT_TRUE(error_for("a.jsonl", "\n5").starts_with("a.jsonl:2: an object"));
  EXPECT_EQ(error_for("a.jsonl", "\n \n"), "a.jsonl: no rows");
  EXPECT_EQ(error_for("a.json", ""), "a.json: no rows");
  EXPECT_EQ(error_for("a.json", " [ ] "), "a.json: no rows");
  EXPECT_TRUE(
      error_for("a.json", "[{},\n{}").starts_with("a.json:2: the JSON array ends too early"));
  EXPECT_TRUE(error_for("a.json", "[{},\n{},]").starts_with("a.json:2: "));
  EXPECT_TRUE(error_for("a.json", "[{}]\nx").starts_with("a.json:2: text after"));
  EXPECT_TRUE(error_for("a.json", "[{},\n{\"a\": \"").starts_with("a.json:2: not valid JSON"));
  EXPECT_TRUE(error_for("a.json", "[1]").starts_with("a.json:1: an object"));
  EXPECT_TRUE(error_for("a.jsonl", "\xff\xfe{").starts_with("a.jsonl: UTF-16"));
  EXPECT_TRUE(error_for("a.jsonl", std::string(100000, '[')).starts_with("a.jsonl:1: nested"));
}

TEST(Containers, UnknownEndingAndMissingFile) {
  EXPECT_NE(error_for("a.txt", "x").find("one of .jsonl, .json, .csv, .tsv, .parquet"),
            std::string::npos);
  EXPECT_NE(error_of([] { read_rows({"/nowhere/a.jsonl"}); }).find("cannot be read"),
            std::string::npos);
  EXPECT_NE(error_of([] { read_rows({"/nowhere/a.parquet"}); }).find("/nowhere/a.parquet: "),
            std::string::npos);
}

TEST(Containers, CsvCellsStayAsTheyAre) {
  const auto rows = read_rows({sample("prompt_completion.csv")});
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[0].value.dump(), R"({"id": "1", "parent_text": "abc", "comment_body": " def"})");
  EXPECT_EQ(rows[1].value.dump(),
            R"({"id": "007", "parent_text": "two\nlines", "comment_body": "ok"})");
  EXPECT_EQ(rows[2].value.dump(),
            R"({"id": "3", "parent_text": "say \"hi\", then", "comment_body": ""})");
  EXPECT_EQ(rows[3].value.dump(), R"({"id": "4", "parent_text": "1.0", "comment_body": "1e5"})");
  // A quoted newline and an empty line lie between them.
  EXPECT_EQ(lines_of(rows),
            (std::vector<std::string>{"prompt_completion.csv:2", "prompt_completion.csv:3",
                                      "prompt_completion.csv:6", "prompt_completion.csv:7",
                                      "prompt_completion.csv:8"}));
}

TEST(Containers, TsvAndLineEnds) {
  const auto rows = read_rows({sample("prompt_completion.tsv")});
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[2].value.dump(), R"({"prompt": "q \"u\"", "completion": "a b"})");
  EXPECT_EQ(rows[4].value.dump(), R"({"prompt": "z", "completion": "-0.50"})");
  const TemporaryFile crlf("a.csv", "\xef\xbb\xbfp,c\r\n1,\r\n\r\n\"x\r\ny\",5\"\r\n3,4");
  const auto windows = read_rows({crlf.path()});
  ASSERT_EQ(windows.size(), 3u);
  EXPECT_EQ(windows[0].value.dump(), R"({"p": "1", "c": ""})");
  EXPECT_EQ(windows[1].value.dump(), R"({"p": "x\r\ny", "c": "5\""})");
  EXPECT_EQ(lines_of(windows), (std::vector<std::string>{"a.csv:2", "a.csv:4", "a.csv:6"}));
}

TEST(Containers, BadCsvNamesTheLine) {
  EXPECT_TRUE(error_for("a.csv", "a,b\n1,2\n\n\"x\ny\",2,3\n").starts_with("a.csv:4: 3 cells"));
  EXPECT_TRUE(error_for("a.csv", "a,b\n1,2\n3,\xff\n").starts_with("a.csv:3: not valid UTF-8"));
  EXPECT_TRUE(error_for("a.csv", "a,a\n1,2\n").starts_with("a.csv:1: two columns are named \"a\""));
  EXPECT_TRUE(error_for("a.csv", "a,b\n").starts_with("a.csv: no rows"));
  EXPECT_TRUE(error_for("a.csv", "").starts_with("a.csv: no rows"));
  EXPECT_TRUE(error_for("a.csv", "a,b\n\n1,\"x\n").starts_with("a.csv:3: a quoted cell"));
}

TEST(Containers, CsvLongerThanABlock) {
  std::string text = "a,b\n";
  for (int i = 0; i < 40000; ++i)
    text += std::to_string(i) + ",\"" + std::string(50, 'x') + "\n\"\n";
  const TemporaryFile file("a.csv", text);
  const auto rows = read_rows({file.path()});
  ASSERT_EQ(rows.size(), 40000u);
  EXPECT_EQ(rows[39999].value.get("a")->string(), "39999");
  EXPECT_TRUE(rows[39999].where.ends_with("a.csv:80000"));
}

TEST(Containers, ParquetTypes) {
  const auto rows = read_rows({sample("rows.parquet")});
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(
      rows[0].value.dump(),
      R"({"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": )"
      R"("4"}], "id": 1, "score": 0.5, "flag": true, "kind": "a", "props": {"x": 1}, )"
      R"("day": "2024-01-02", "ids": [1, 2], "large": "L"})");
  EXPECT_EQ(rows[1].value.get("messages")->dump(),
            R"([{"role": "user", "content": "hi", "name": "Ann"}, {"role": "assistant", )"
            R"("content": "yo"}])");
  EXPECT_EQ(rows[1].value.get("picture")->string(), "text");
  EXPECT_EQ(rows[3].value.get("props")->dump(), R"({"y": 2, "z": 3})");
  EXPECT_EQ(rows[3].value.get("messages"), nullptr);
  EXPECT_TRUE(rows[4].where.ends_with("rows.parquet: row 5"));
}

// nested, turns, pair: lists of lists, of structs, of fixed size; decimal, wide: decimal128 and
// 256; times of several units; kind, number_kind: dictionaries; large strings and views; picture,
// fixed, large_binary: bytes, which are text or absent; nothing: Parquet's type of nulls only.
TEST(Containers, ParquetTypesBeyondText) {
  const auto rows = read_rows({sample("types.parquet")});
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(
      rows[0].value.dump(),
      R"({"nested": [[1, 2], [], null], "turns": [{"role": "user", "content": "a", "tools": )"
      R"(["x", "y"]}, {"role": "assistant", "content": "b", "tools": []}], "pair": [1.5, 2.5], )"
      R"("decimal": "12.50", "wide": "12345678901234567890123456789012345678901.5", )"
      R"("when_ms": "2024-01-02 03:04:05.678", "when_ns_utc": "2024-01-02 03:04:05.000000000Z", )"
      R"("day": "2024-02-29", "time": "03:04:05.000006", "span": "90", "kind": "a", )"
      R"("number_kind": 7, "large": "L", "view": "short", "fixed": "ab", "large_binary": "big", )"
      R"("unsigned": 1.8446744073709552e+19, "half": 0.5, "not_finite": NaN, "by_number": )"
      R"([{"key": 1, "value": "x"}, {"key": 2, "value": null}], "flag": true})");
  EXPECT_EQ(rows[1].value.dump(),
            R"({"nested": [], "decimal": "-0.01", "kind": "b", "large": "", "view": )"
            R"("longer than twelve bytes", "picture": "text", "unsigned": 9223372036854775807, )"
            R"("not_finite": Infinity, "by_number": {}})");
  EXPECT_EQ(rows[2].value.dump(),
            R"({"turns": [null], "pair": [0.0, -1.0], "wide": "-1.0", )"
            R"("when_ms": "1969-12-31 00:00:00.000", "day": "0001-01-01", )"
            R"("time": "00:00:00.000000", "kind": "a", "number_kind": 7, "half": -2.0, )"
            R"("flag": false})");
}

TEST(Containers, DamagedParquetIsAnError) {
  const std::string whole = read_file(sample("rows.parquet"));
  EXPECT_TRUE(error_for("a.parquet", "").starts_with("a.parquet: "));
  EXPECT_TRUE(error_for("a.parquet", "PAR1 not really PAR1").starts_with("a.parquet: "));
  EXPECT_TRUE(error_for("a.parquet", whole.substr(0, whole.size() / 2)).starts_with("a.parquet: "));
  // Bytes flipped all over the file: an error or other values, never a crash.
  for (size_t i = 0; i < whole.size(); i += 41) {
    std::string bad = whole;
    bad[i] = static_cast<char>(bad[i] ^ 0x55);
    const TemporaryFile file("a.parquet", bad);
    try {
      read_rows({file.path()});
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInput);
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace ft
