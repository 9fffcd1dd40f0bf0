#include "data/inspect.h"

#include "data/tokenize_lines.h"
#include "fake_tokenizer.h"
#include "parity.h"
#include "temporary_file.h"

namespace ft {
namespace {

Inspection inspected(const std::string& name, RunConfig config, int64_t num_shown) {
  const FakeTokenizer tokenizer;
  const ChatTemplate chat_template = test_template();
  WindowCut cut(Rows({(test_data() / "samples" / name).string()}), config);
  const Dataset data = make_dataset(cut.all(), {.config = config.data,
                                                .tokenizer = &tokenizer,
                                                .chat_template = &chat_template,
                                                .vocab_size = tokenizer.size()});
  return inspect_data(config, cut, data, nullptr, &tokenizer, num_shown);
}

TEST(Inspect, ShowsWhatCarriesLoss) {
  const std::string text = inspection_text(inspected("messages.jsonl", {}, 1), false);
  EXPECT_NE(text.find("<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n{+4<|im_end|>\n+}"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("messages.jsonl:1): 26 tokens, 3 trained"), std::string::npos) << text;
  EXPECT_NE(text.find("train: 5 rows, 5 examples, "), std::string::npos);
}

TEST(Inspect, CutDocumentsEndWhereTheModelStops) {
  RunConfig config;
  config.data.max_length = 4;
  const Inspection found = inspected("text.jsonl", config, 5);
  EXPECT_EQ(found.train.truncated, 3);
  std::string text;
  for (const ShownToken& token : found.documents[1].tokens) text += token.text;
  EXPECT_EQ(text, "<bos>wit");
  // The two bytes of one letter are two tokens here: the letter shows once, with the second.
  EXPECT_EQ(found.documents[2].tokens[1].text, "");
  EXPECT_EQ(found.documents[2].tokens[2].text, "\xc3\xa9");
}

TEST(Inspect, Json) {
  RunConfig config;
  config.data.max_length = 16;
  config.train.batch_size = 2;
  const Json json = inspection_json(inspected("tokens.jsonl", config, 2));
  EXPECT_EQ(json.get("format")->string(), "tokens");
  const Json& document = json.get("documents")->array().at(0);
  EXPECT_EQ(document.get("ids")->dump(), "[5, 6, 7]");
  EXPECT_EQ(document.get("trained")->dump(), "[0, 1, 1]");
  EXPECT_EQ(json.get("packing")->get("rows")->integer(), 1);
  EXPECT_EQ(json.get("packing")->get("first_rows")->dump(), "[[3, 3, 4, 4]]");
  EXPECT_DOUBLE_EQ(json.get("packing")->get("occupancy")->number(), 14.0 / 16);
  EXPECT_EQ(json.get("packing")->get("steps")->integer(), 1);
  EXPECT_EQ(json.get("counts")->get("no_targets")->integer(), 1);
  EXPECT_EQ(json.get("lengths")->get("median")->integer(), 3);
  EXPECT_EQ(json.get("lengths")->get("histogram")->dump(),
            R"([{"from": 0, "below": 16, "count": 5}])");
  EXPECT_TRUE(json.get("eval_counts")->is_null());
}

TEST(Inspect, ControlBytesStayOffTheTerminal) {
  Inspection inspection;
  inspection.documents.push_back({.where = "a:1", .tokens = {{1, "", "\x1b[31mred\n", true}}});
  const std::string text = inspection_text(inspection, false);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(text.find("{+\\x1b[31mred\n+}"), std::string::npos);
}

std::string answer(const std::string& line, TokenizeOptions options = {}) {
  const FakeTokenizer tokenizer;
  const ChatTemplate chat_template = test_template();
  return tokenize_line(line, tokenizer, &chat_template, options).dump();
}

TEST(TokenizeLines, Texts) {
  EXPECT_EQ(answer(R"({"text": "a d"})"),
            R"({"ids": [113, 300], "tokens": ["a", " d"], "decoded": "a d"})");
  EXPECT_EQ(answer(R"({"text": "a"})", {.add_special_tokens = true, .parse_special = false}),
            R"({"ids": [1, 113], "tokens": ["<bos>", "a"], "decoded": "<bos>a"})");
  EXPECT_EQ(answer(R"({"text": "<eos>"})", {.add_special_tokens = false, .parse_special = true}),
            R"({"ids": [2], "tokens": ["<eos>"], "decoded": "<eos>"})");
  EXPECT_EQ(answer(R"({"ids": [1, 113]})"), R"({"decoded": "<bos>a"})");
}

TEST(TokenizeLines, Messages) {
  const std::string line =
      R"({"messages": [{"role": "user", "content": "<eos>"}, {"role": "assistant", "content": "b"}]})";
  const Json plain = parse_json(answer(line), "t");
  EXPECT_EQ(plain.get("rendered")->string(),
            "<|im_start|>user\n<eos><|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n");
  EXPECT_EQ(plain.get("ids")->array().size(), plain.get("trained")->array().size());
  EXPECT_TRUE(plain.get("trained")->dump().ends_with("0, 1, 1, 1]"));
  // Four tokens less: <eos> is one token only when asked for.
  const Json parsed =
      parse_json(answer(line, {.add_special_tokens = false, .parse_special = true}), "t");
  EXPECT_EQ(parsed.get("ids")->array().size() + 4, plain.get("ids")->array().size());
  const Json prompt = parse_json(
      answer(R"({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": true})"),
      "t");
  EXPECT_TRUE(prompt.get("rendered")->string().ends_with("<|im_start|>assistant\n"));
}

TEST(TokenizeLines, ErrorsStayInTheirLine) {
  for (const char* line :
       {"", "{", "[]", "{}", R"({"text": 5})", R"({"ids": [301]})", R"({"ids": [-1]})",
        R"({"ids": "x"})", R"({"messages": "x"})", R"({"messages": [], "now": 5})"})
    EXPECT_TRUE(answer(line).starts_with("{\"error\": \"")) << line;
  const FakeTokenizer tokenizer;
  EXPECT_NE(tokenize_line(R"({"messages": []})", tokenizer, nullptr, {}).get("error"), nullptr);
}

}  // namespace
}  // namespace ft
