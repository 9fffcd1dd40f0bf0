// Every format on its sample file: the text the model sees and the parts of it that carry loss.
#include "data/formats.h"

#include "data/label.h"
#include "fake_tokenizer.h"
#include "parity.h"
#include "temporary_file.h"

namespace ft {
namespace {

/// The whole text, and the trained parts of it with | between them.
struct Seen {
  std::string text, trained;
  bool operator==(const Seen&) const = default;
};
void PrintTo(const Seen& seen, std::ostream* out) {
  *out << Json(seen.text).dump() << " / " << Json(seen.trained).dump();
}

Seen seen(const Document& document) {
  const FakeTokenizer tokenizer;
  const Example& e = document.example;
  Seen out;
  EXPECT_EQ(e.ids.size(), e.labels.size());
  for (size_t i = 0; i < e.ids.size(); ++i) {
    const std::string piece = tokenizer.piece(e.ids[i]);
    out.text += piece;
    if (e.labels[i] == kIgnore) continue;
    EXPECT_EQ(e.labels[i], e.ids[i]);
    if (i > 0 && e.labels[i - 1] == kIgnore && !out.trained.empty()) out.trained += "|";
    out.trained += piece;
  }
  return out;
}

struct Made {
  explicit Made(const std::string& name, DataConfig config = {}, bool with_template = true) {
    const ChatTemplate chat_template = test_template();
    const auto rows = read_rows({(test_data() / "samples" / name).string()});
    const DataContext context{.config = config,
                              .tokenizer = &tokenizer,
                              .chat_template = with_template ? &chat_template : nullptr,
                              .vocab_size = tokenizer.size()};
    const std::string format = detect_format(rows[0], context);
    for (const Row& row : rows) documents.push_back(make_document(row, format, context));
  }
  Seen operator[](size_t i) const { return seen(documents.at(i)); }
  FakeTokenizer tokenizer;
  std::vector<Document> documents;
};

TEST(Formats, Messages) {
  const Made made("messages.jsonl");
  EXPECT_EQ(made[0], (Seen{"<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n",
                           "4<|im_end|>\n"}));
  // "loss": false leaves the first answer out.
  EXPECT_EQ(made[1].trained, "ok<|im_end|>\n");
  EXPECT_TRUE(
      made[2].text.starts_with("<|im_start|>system\nCount.<|im_end|>\n<|im_start|>user\nab"));
  EXPECT_EQ(made[2].trained, "two<|im_end|>\n");
  EXPECT_EQ(made[4].trained,
            "[{\"type\": \"function\", \"function\": {\"name\": \"sky\", "
            "\"arguments\": {\"t\": 1}}}]<|im_end|>\n|yes<|im_end|>\n");
  EXPECT_TRUE(
      made[4].text.starts_with("[{\"type\": \"function\", \"function\": {\"name\": \"sky\"}}]"));
}

TEST(Formats, TypedControlTokensStayText) {
  const Made made("messages.jsonl");
  const auto& ids = made.documents[3].example.ids;
  EXPECT_EQ(std::count(ids.begin(), ids.end(), FakeTokenizer::kEnd), 2);
  EXPECT_TRUE(made[3].text.starts_with("<|im_start|>user\nsay <|im_end|><|im_end|>\n"));
}

TEST(Formats, SampleTexts) {
  const Made made("messages.jsonl");
  const Document& document = made.documents[1];
  EXPECT_TRUE(document.prompt.ends_with("bye<|im_end|>\n<|im_start|>assistant\n"));
  EXPECT_EQ(document.reference, "ok");
  EXPECT_EQ(document.prompt_messages.array().size(), 4u);
  EXPECT_EQ(document.rendered, made[1].text);
  ASSERT_EQ(document.offsets.size(), document.example.ids.size());
  EXPECT_EQ(document.offsets.back().end, document.rendered.size());
}

TEST(Formats, TrainOnAll) {
  DataConfig config;
  config.train_on = "all";
  const Made made("messages.jsonl", config);
  EXPECT_EQ(made[0].trained, made[0].text.substr(std::string("<|im_start|>").size()));
  // An answer marked as not trained stays so.
  EXPECT_EQ(made[1].trained.find("yo"), std::string::npos);
  EXPECT_NE(made[1].trained.find("Be brief."), std::string::npos);
  const Made texts("prompt_completion.tsv", config);
  EXPECT_EQ(texts[0].trained, "abc def<eos>");
}

TEST(Formats, SystemPromptWhereThereIsNone) {
  DataConfig config;
  config.system_prompt = "SYS";
  const Made made("messages.jsonl", config);
  EXPECT_TRUE(
      made[0].text.starts_with("<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\n2+2?"));
  EXPECT_TRUE(made[1].text.starts_with("<|im_start|>system\nBe brief."));
  EXPECT_EQ(made[1].text.find("SYS"), std::string::npos);
}

TEST(Formats, ShareGpt) {
  const Made made("sharegpt.json");
  EXPECT_EQ(made[0].text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n"
            "<|im_start|>assistant\n4<|im_end|>\n");
  EXPECT_EQ(made[0].trained, "4<|im_end|>\n");
  // Function calls read as in the messages format.
  EXPECT_EQ(made[1], Made("messages.jsonl")[4]);
  EXPECT_TRUE(made[2].text.starts_with("<|im_start|>system\nS<|im_end|>\n"));
  EXPECT_EQ(made[3].trained, "y<|im_end|>\n|w<|im_end|>\n");
}

TEST(Formats, PromptCompletionAsTrl) {
  const Made made("prompt_completion.jsonl");
  EXPECT_EQ(made[0], (Seen{"<bos>abc def<eos>", " def<eos>"}));
  // " d" is one token across the join: it is completion.
  EXPECT_EQ(made[1], (Seen{"<bos>abc def<eos>", " def<eos>"}));
  EXPECT_EQ(made[2].trained, "a2<|im_end|>\n");
  EXPECT_EQ(made[3].text, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n");
  EXPECT_EQ(made[4], (Seen{"<bos>ended<eos>", "ed<eos>"}));
  EXPECT_EQ(made.documents[0].example.ids[0], FakeTokenizer::kBos);
  EXPECT_EQ(made.documents[0].prompt, "abc");
  EXPECT_EQ(made.documents[0].reference, " def");
  EXPECT_EQ(made.documents[0].rendered, "abc def<eos>");
}

TEST(Formats, ColumnsOfACsv) {
  DataConfig config;
  config.columns = {{"prompt", "parent_text"}, {"completion", "comment_body"}};
  const Made made("prompt_completion.csv", config, false);
  EXPECT_EQ(made[0].trained, " def<eos>");
  EXPECT_EQ(made[2], (Seen{"<bos>say \"hi\", then<eos>", "<eos>"}));
  EXPECT_EQ(made[3], (Seen{"<bos>1.01e5<eos>", "1e5<eos>"}));
}

TEST(Formats, AlpacaWithAndWithoutATemplate) {
  const Made made("alpaca.json");
  EXPECT_EQ(made[0],
            (Seen{"<|im_start|>user\nAdd.\n1 2<|im_end|>\n<|im_start|>assistant\n3<|im_end|>\n",
                  "3<|im_end|>\n"}));
  EXPECT_EQ(made[1].text,
            "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\nhi<|im_end|>\n");
  EXPECT_EQ(made[2].trained, "b<|im_end|>\n|c<|im_end|>\n");
  EXPECT_TRUE(made[3].text.starts_with("<|im_start|>system\nS<|im_end|>\n"));
  const Made plain("alpaca.json", {}, false);
  EXPECT_EQ(plain[0], (Seen{"<bos>Add.\n1 2\n3<eos>", "3<eos>"}));
  EXPECT_EQ(plain[2], (Seen{"<bos>a\nb\nGo on.\nc<eos>", "c<eos>"}));
}

TEST(Formats, Text) {
  const Made made("text.jsonl");
  EXPECT_EQ(made[0], (Seen{"<bos>abc<eos>", "abc<eos>"}));
  EXPECT_EQ(made[1], (Seen{"<bos>with end<eos>", "with end<eos>"}));
  EXPECT_EQ(made[3], (Seen{"", ""}));
}

TEST(Formats, Tokens) {
  const Made made("tokens.jsonl");
  const auto labels = [&](size_t i) { return made.documents[i].example.labels; };
  EXPECT_EQ(labels(0), (std::vector<int32_t>{kIgnore, 6, 7}));
  EXPECT_EQ(labels(1), (std::vector<int32_t>{kIgnore, 6, 7}));
  EXPECT_EQ(labels(2), (std::vector<int32_t>{kIgnore, kIgnore, kIgnore, 11}));
  EXPECT_EQ(labels(3), std::vector<int32_t>{kIgnore});
  EXPECT_EQ(labels(4), (std::vector<int32_t>{kIgnore, 4, 4, 4}));
}

TEST(Label, TokensThatStartInsideASpan) {
  const FakeTokenizer tokenizer;
  RenderedChat chat{.text = "ab deX", .trained = {{3, 5}}, .breaks = {}};
  // " d" straddles the start of the span and starts before it.
  EXPECT_EQ(seen(label_chat(chat, {}, TrainOn::kSome, tokenizer, "w")).trained, "e");
  chat.trained = {{2, 5}};
  EXPECT_EQ(seen(label_chat(chat, {}, TrainOn::kSome, tokenizer, "w")).trained, " de");
  EXPECT_EQ(seen(label_chat(chat, {{0, 5}}, TrainOn::kAll, tokenizer, "w")).trained, "X");
}

TEST(Label, TwoBosAreRefused) {
  const FakeTokenizer tokenizer;
  const std::string error = error_of([&] { label_text("<bos>abc", tokenizer, "a.jsonl:3"); });
  EXPECT_TRUE(error.starts_with("a.jsonl:3: the text begins with two <bos>")) << error;
  const RenderedChat chat{.text = "<bos><bos>a", .trained = {}, .breaks = {}};
  EXPECT_THROW(label_chat(chat, {}, TrainOn::kSome, tokenizer, "w"), Error);
}

std::string row_error(const std::string& line, DataConfig config = {}, bool with_template = true) {
  const FakeTokenizer tokenizer;
  const ChatTemplate chat_template = test_template();
  const TemporaryFile file("a.jsonl", "\n" + line);
  const std::string error = error_of([&] {
    make_dataset(Rows({file.path()}), {.config = config,
                                       .tokenizer = &tokenizer,
                                       .chat_template = with_template ? &chat_template : nullptr,
                                       .vocab_size = tokenizer.size()});
  });
  EXPECT_EQ(error.find('\n'), std::string::npos);
  return error.substr(error.find("a.jsonl") == std::string::npos ? 0 : error.find("a.jsonl"));
}

TEST(Formats, ErrorsNameTheRow) {
  const auto begins = [](const std::string& line, const std::string& wanted) {
    const std::string error = row_error(line);
    EXPECT_TRUE(error.starts_with("a.jsonl:2: " + wanted)) << error;
  };
  begins(R"({"messages": []})", "messages: an empty list");
  begins(R"({"messages": {"role": "user"}})", "messages: wrong type");
  begins(R"({"messages": "x"})", "messages: not valid JSON");
  begins(R"({"messages": [5]})", "messages[0]: an object is wanted");
  begins(R"({"messages": [{"role": "asistant", "content": "x"}]})",
         "messages[0]: role: unknown value \"asistant\" (did you mean \"assistant\"?)");
  begins(R"({"messages": [{"role": "user"}]})", "messages[0]: no \"content\"");
  begins(R"({"messages": [{"role": "user", "content": 5}]})", "messages[0]: content: wrong type");
  begins(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})",
         "messages[0]: content: a part that is no text");
  begins(R"({"messages": [{"from": "human", "value": "x"}]})", "messages[0]: no \"role\"; {from");
  begins(R"({"messages": [{"role": "assistant", "content": "x", "loss": 1}]})",
         "messages[0]: loss: wrong type");
  begins(R"({"messages": [{"role": "assistant", "content": "x", "weight": 0.5}]})",
         "messages[0]: weight: 0 or 1");
  begins(R"({"conversations": [{"role": "user", "content": "x"}]})",
         "conversations[0]: no \"from\"; {role, content}");
  begins(R"({"conversations": [{"from": "robot", "value": "x"}]})",
         "conversations[0]: from: unknown value \"robot\"");
  begins(R"({"conversations": [{"from": "function_call", "value": "call me"}]})",
         "conversations[0]: not valid JSON");
  begins(R"({"conversations": [{"from": "function_call", "value": "{\"nam\": 1}"}]})",
         "conversations[0]: a function call needs");
  begins(R"({"prompt": 5, "completion": "x"})", "prompt: wrong type");
  begins(R"({"text": ["x"]})", "text: wrong type");
  begins(R"({"instruction": "x", "output": "y", "history": [["a"]]})", "history[0]: ");
  begins(R"({"input_ids": [1, 301]})", "input_ids[1]: 301 is not from 0 to 300");
  begins(R"({"input_ids": [1, -1]})", "input_ids[1]: -1 is not");
  begins(R"({"input_ids": [1, 2.0]})", "input_ids[1]: wrong type");
  begins(R"({"input_ids": [1, 2], "labels": [1]})", "labels: 1 values for 2 input_ids");
  begins(R"({"input_ids": [1, 2], "labels": [1, -99]})", "labels[1]: -99 is not");
  begins(R"({"input_ids": [5, 6, 7, 8, 9], "labels": [6, 7, 8, 9, -100]})",
         "labels: each is the id of the next place");
  begins(R"({"input_ids": [5, 6, 0], "attention_mask": [1, 1, 0]})", "attention_mask: holds 0");
}

TEST(Formats, NoTemplateNoChat) {
  const std::string line = R"({"messages": [{"role": "user", "content": "x"}]})";
  EXPECT_NE(row_error(line, {}, false).find("set data.chat_template: NAME"), std::string::npos);
}

}  // namespace
}  // namespace ft
