#include "data/dataset.h"

#include <set>

#include "fake_tokenizer.h"
#include "parity.h"
#include "temporary_file.h"

namespace ft {
namespace {

Dataset made(const std::string& jsonl, const DataConfig& config, bool keep_empty = false) {
  const FakeTokenizer tokenizer;
  const ChatTemplate chat_template = test_template();
  const TemporaryFile file("a.jsonl", jsonl);
  return make_dataset(Rows({file.path()}),
                      {.config = config,
                       .tokenizer = &tokenizer,
                       .chat_template = &chat_template,
                       .vocab_size = tokenizer.size()},
                      {.keep_empty = keep_empty});
}

std::string made_error(const std::string& jsonl, const DataConfig& config) {
  const std::string error = error_of([&] { made(jsonl, config); });
  const size_t at = error.find("a.jsonl");
  return at == std::string::npos ? error : error.substr(at);
}

const char* const kLong =
    R"({"input_ids": [1, 2, 3, 4, 5, 6, 7], "labels": [1, 2, 3, -100, 5, 6, 7]}
{"input_ids": [8, 9, 10]}
{"input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, -100, -100, 5]}
)";

DataConfig at_most(int64_t max_length, const std::string& overflow) {
  DataConfig config;
  config.max_length = max_length;
  config.overflow = overflow;
  return config;
}

TEST(Dataset, Truncate) {
  const Dataset data = made(kLong, at_most(3, "truncate"));
  ASSERT_EQ(data.documents.size(), 2u);
  EXPECT_EQ(data.documents[0].example.ids, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(data.documents[0].example.labels, (std::vector<int32_t>{kIgnore, 2, 3}));
  EXPECT_EQ(data.row_of, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(data.lengths, (std::vector<int64_t>{7, 3, 5}));
  EXPECT_EQ(data.counts.rows, 3);
  EXPECT_EQ(data.counts.truncated, 2);
  EXPECT_EQ(data.counts.tokens_lost, 6);
  EXPECT_EQ(data.counts.no_targets, 1);  // its only target was cut off
  EXPECT_EQ(data.counts.examples, 2);
  EXPECT_EQ(data.counts.tokens, 6);
  EXPECT_EQ(data.counts.targets, 4);
}

TEST(Dataset, Drop) {
  const Dataset data = made(kLong, at_most(5, "drop"));
  EXPECT_EQ(data.row_of, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(data.counts.dropped, 1);
  EXPECT_EQ(data.counts.tokens_lost, 7);
}

TEST(Dataset, SplitMakesDocumentsOfTheirOwn) {
  const Dataset data = made(kLong, at_most(4, "split"));
  EXPECT_EQ(data.row_of, (std::vector<int64_t>{0, 0, 1}));
  EXPECT_EQ(data.documents[1].example.ids, (std::vector<int32_t>{5, 6, 7}));
  EXPECT_EQ(data.documents[1].example.labels, (std::vector<int32_t>{kIgnore, 6, 7}));
  EXPECT_EQ(data.counts.split, 2);
  EXPECT_EQ(data.counts.tokens_lost, 0);
  EXPECT_EQ(data.counts.no_targets, 2);  // both pieces of the last row
}

TEST(Dataset, PiecesCarryTheirOwnText) {
  const Dataset data = made(R"({"prompt": "abc", "completion": "efgh"})", at_most(4, "split"));
  ASSERT_EQ(data.documents.size(), 1u);  // the first piece is all prompt
  EXPECT_EQ(data.documents[0].rendered, "efgh");
  EXPECT_EQ(data.documents[0].offsets[1].begin, 1u);
  EXPECT_EQ(data.documents[0].prompt, "");
  const Dataset cut = made(R"({"prompt": "ab", "completion": "efgh"})", at_most(4, "truncate"));
  EXPECT_EQ(cut.documents[0].rendered, "abe");
  EXPECT_EQ(cut.documents[0].prompt, "ab");
  EXPECT_EQ(cut.documents[0].reference, "efgh");
}

TEST(Dataset, KeepEmptyKeepsEveryRow) {
  const Dataset data = made("{\"input_ids\": [1]}\n{\"input_ids\": []}\n", {}, true);
  EXPECT_EQ(data.row_of, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(data.counts.no_targets, 2);
  EXPECT_EQ(data.counts.targets, 0);
}

TEST(Dataset, NothingToTrainOnIsAnError) {
  const std::string error = made_error("{\"input_ids\": [1, 2, 3]}\n", at_most(2, "drop"));
  EXPECT_TRUE(error.starts_with("a.jsonl: no trainable token in the data: of 1 rows 0 have"))
      << error;
  EXPECT_TRUE(made_error(R"({"messages": [{"role": "user", "content": "x"}]})", {})
                  .starts_with("a.jsonl: no trainable token"));
}

TEST(Dataset, TrainingDataDropsTheTexts) {
  const FakeTokenizer tokenizer;
  const DataConfig config;
  const Rows rows({(test_data() / "samples" / "text.jsonl").string()});
  DataContext context{.config = config, .tokenizer = &tokenizer, .vocab_size = tokenizer.size()};
  const Dataset full = make_dataset(rows, context);
  context.keep_texts = false;
  const Dataset bare = make_dataset(rows, context);
  ASSERT_EQ(full.documents.size(), bare.documents.size());
  EXPECT_EQ(full.documents[0].rendered, "abc<eos>");
  EXPECT_EQ(bare.documents[0].rendered, "");
  EXPECT_TRUE(bare.documents[0].offsets.empty());
  EXPECT_EQ(full.documents[0].example.ids, bare.documents[0].example.ids);
}

TEST(Dataset, DetectsTheFormatOfTheFirstRow) {
  const FakeTokenizer tokenizer;
  const DataConfig config;
  const DataContext context{.config = config, .tokenizer = &tokenizer};
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"messages": [], "prompt": "x"})", "messages"},
      {R"({"conversations": []})", "sharegpt"},
      {R"({"prompt": "a", "completion": "b", "id": 3})", "prompt_completion"},
      {R"({"instruction": "a", "output": "b"})", "alpaca"},
      {R"({"text": "a", "messages": null})", "text"},
      {R"({"input_ids": []})", "tokens"}};
  for (const auto& [line, format] : cases)
    EXPECT_EQ(detect_format({parse_json(line, "r"), "a.jsonl:1"}, context), format) << line;
}

TEST(Dataset, WrongKeysAreErrorsWithASuggestion) {
  EXPECT_TRUE(made_error(R"({"question": "a", "answer": "b"})", {})
                  .starts_with("a.jsonl:1: no data format has the keys question, answer; formats "
                               "are messages (messages), "));
  EXPECT_TRUE(made_error(R"({"text": "a", "messages": []})", {})
                  .starts_with("a.jsonl:1: fits several formats (messages, text)"));
  EXPECT_EQ(
      made_error("{\"text\": \"a\"}\n{\"txt\": \"b\"}", {}),
      "a.jsonl:2: no \"text\", which the text format needs (did you mean \"txt\"?); the row has "
      "txt; data.columns can rename");
  EXPECT_EQ(made_error("{\"text\": \"a\"}\n{\"text\": null}", {}),
            "a.jsonl:2: text: null, a value is wanted");
  EXPECT_TRUE(made_error(R"({"messages": [], "chosen": 1})", {})
                  .starts_with("a.jsonl:1: \"chosen\" marks preference data"));
  DataConfig config;
  config.format = "alpacca";
  EXPECT_TRUE(
      made_error("{\"text\": \"a\"}", config)
          .starts_with("data.format: unknown value \"alpacca\" (did you mean \"alpaca\"?)"));
}

TEST(Dataset, Columns) {
  DataConfig config;
  config.columns = {{"prompt", "question"}, {"completion", "answer"}};
  EXPECT_EQ(made(R"({"question": "a", "answer": "b", "prompt": 5})", config).format,
            "prompt_completion");
  EXPECT_TRUE(made_error(R"({"question": "a", "anser": "b"})", config)
                  .starts_with("a.jsonl:1: data.columns: no column \"answer\" (did you mean "
                               "\"anser\"?)"));
  EXPECT_TRUE(
      made_error("{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"a\"}", config)
          .starts_with("a.jsonl:2: no \"answer\", which the prompt_completion format needs"));
  config.columns = {{"promt", "question"}};
  EXPECT_TRUE(made_error(R"({"question": "a"})", config)
                  .starts_with("data.columns: no format has a key \"promt\" (did you mean "
                               "\"prompt\"?)"));
  config.columns = {{"prompt", "completion"}, {"completion", "prompt"}};
  const Dataset swapped = made(R"({"prompt": "b", "completion": "a"})", config);
  EXPECT_EQ(swapped.documents[0].rendered, "ab<eos>");
}

TEST(Dataset, WhatAFormatCannotHonourIsAnError) {
  DataConfig config;
  config.system_prompt = "S";
  EXPECT_TRUE(made_error(R"({"text": "a"})", config).starts_with("data.system_prompt: the text"));
  EXPECT_NE(made_error(R"({"prompt": "a", "completion": "b"})", config).find("are texts"),
            std::string::npos);
  const TemporaryFile file("b.jsonl", R"({"text": "a"})");
  const Rows rows({file.path()});
  const DataConfig plain;
  EXPECT_NE(error_of([&] { make_dataset(rows, {.config = plain}); }).find("has no tokenizer"),
            std::string::npos);
  const FakeTokenizer tokenizer;
  EXPECT_NE(error_of([&] {
              make_dataset(rows, {.config = plain, .tokenizer = &tokenizer, .vocab_size = 50});
            }).find("the tokenizer gives id 113, the model's vocabulary ends at 49"),
            std::string::npos);
}

TEST(Dataset, TokensNeedNoTokenizer) {
  const DataConfig config;
  const Rows rows({(test_data() / "samples" / "tokens.jsonl").string()});
  const Dataset data = make_dataset(rows, {.config = config, .vocab_size = 12});
  EXPECT_EQ(data.row_of, (std::vector<int64_t>{0, 1, 2, 4}));
  EXPECT_EQ(data.counts.no_targets, 1);
}

std::vector<int64_t> numbers(const Rows& rows) {
  std::vector<int64_t> out;
  for (size_t i = 0; i < rows.size(); ++i) out.push_back(rows[i].value.get("n")->integer());
  return out;
}

TEST(Split, ShareIsDrawnOnceAndForAll) {
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += "{\"n\": " + std::to_string(i) + "}\n";
  const TemporaryFile file("a.jsonl", lines);
  DataConfig config;
  config.train = {file.path()};
  config.eval_split = 0.1;
  const SplitRows split = read_split(config, 42);
  EXPECT_EQ(split.eval.size(), 10u);
  EXPECT_EQ(split.train.size(), 90u);
  std::set<int64_t> all;
  for (const auto& part : {split.train, split.eval})
    for (const int64_t n : numbers(part)) all.insert(n);
  EXPECT_EQ(all.size(), 100u);
  EXPECT_EQ(numbers(split.eval), numbers(read_split(config, 42).eval));
  EXPECT_NE(numbers(split.eval), numbers(read_split(config, 43).eval));
  config.shuffle = false;
  EXPECT_EQ(numbers(read_split(config, 42).eval),
            (std::vector<int64_t>{90, 91, 92, 93, 94, 95, 96, 97, 98, 99}));
  config.eval_split = 0.001;
  EXPECT_EQ(numbers(read_split(config, 42).eval), (std::vector<int64_t>{99}));
  config.eval_split = 0.9999;
  EXPECT_EQ(numbers(read_split(config, 42).train), (std::vector<int64_t>{0}));
  config.eval_split = 0;
  EXPECT_EQ(read_split(config, 42).train.size(), 100u);
  config.eval = {file.path()};
  EXPECT_EQ(read_split(config, 42).eval.size(), 100u);
  config.eval_split = 0.1;
  EXPECT_TRUE(error_of([&] { read_split(config, 42); }).starts_with("data.eval_split: data.eval"));
}

TEST(Split, OneRowCannotBeShared) {
  const TemporaryFile file("a.jsonl", "{\"n\": 1}");
  DataConfig config;
  config.train = {file.path()};
  config.eval_split = 0.5;
  EXPECT_NE(error_of([&] { read_split(config, 1); }).find("a single row"), std::string::npos);
}

}  // namespace
}  // namespace ft
