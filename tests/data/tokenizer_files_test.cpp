// Files that are wrong end in one line that names the fault; what stands beside a tokenizer.json
// counts.
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "data/tokenizer.h"
#include "parity.h"

namespace ft {
namespace {

class TokenizerFiles : public testing::Test {
 protected:
  fs::path folder_;

  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(testing::TempDir()) / str("tokenizer_", info->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void put(const char* name, std::string_view content) { write_file(folder_ / name, content); }

  /// Loads the folder and gives the message of the Error, which must be an input error of one line.
  std::string load_error() {
    try {
      const auto tokenizer = Tokenizer::load(folder_);
      (void)tokenizer->encode_ids("Hello 123 world", {});
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInput);
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
      return e.what();
    }
    return "no error";
  }
};

Json variant(const char* name) {
  return read_json(test_data() / "tokenizer_variants" / name / "tokenizer.json");
}
Json& member(Json& json, std::string_view key) {
  return const_cast<Json&>(*json.get(key));
}

Json parsed(std::string_view text) {
  return parse_json(text, "test");
}

TEST_F(TokenizerFiles, MalformedTokenizerJson) {
  using Change = std::function<void(Json&)>;
  const auto model = [](const char* key, Json value) -> Change {
    return [=](Json& root) { member(root, "model").set(key, value); };
  };
  const auto part = [](const char* key, const char* json) -> Change {
    return [=](Json& root) { root.set(key, parsed(json)); };
  };
  const auto vocab = [](const char* token, Json id) -> Change {
    return [=](Json& root) { member(member(root, "model"), "vocab").set(token, id); };
  };
  const struct {
    Change change;
    const char* message;
  } cases[] = {
      {[](Json& root) { root = Json(3); }, "an object is wanted"},
      {[](Json& root) { root.erase("model"); }, "model is missing"},
      {model("type", "Unigram"), "\"Unigram\" is not supported"},
      {model("dropout", 0.1), "dropout"},
      {model("end_of_word_suffix", "</w>"), "end_of_word_suffix"},
      {model("unk_token", "[nope]"), "\"[nope]\" is not in the vocabulary"},
      {[](Json& root) { member(root, "model").erase("vocab"); }, "vocab is missing"},
      {[](Json& root) { member(root, "model").erase("merges"); }, "merges is missing"},
      {model("vocab", parsed("{}")), "it is empty"},
      {model("vocab", parsed("[]")), "an object of token and id"},
      {vocab("new", Json(-1)), "id -1 is out of range"},
      {vocab("new", Json(int64_t{1} << 40)), "id 1099511627776 is out of range"},
      {vocab("new", Json("7")), "a token id is wanted"},
      {vocab("new", Json(7)), "id 7 is taken by"},
      {model("merges", parsed(R"([["t", "nothere"]])")), "merges[0]: \"nothere\" is not in"},
      {model("merges", parsed(R"(["t h", "onlyone"])")), "merges[1]: two tokens are wanted"},
      {model("merges", parsed(R"([["a", "b", "c"]])")), "merges[0]: two tokens are wanted"},
      {model("merges", parsed(R"([["9", "Z"]])")), "\"9Z\" is not in the vocabulary"},
      {part("added_tokens", R"([{"id": 5, "content": "zz"}])"), "contradicts model.vocab"},
      {part("added_tokens", R"([{"id": 99999999, "content": "zz"}])"), "out of range"},
      {part("added_tokens", R"([{"id": 2000, "content": "zz"}, {"id": 2001, "content": "zz"}])"),
       "contradicts an earlier added token"},
      {part("added_tokens", R"([{"content": "zz"}])"), "added_tokens[0].id: a token id"},
      {part("added_tokens", R"([{"id": 2000, "content": 5}])"), "content: wrong type"},
      {part("added_tokens", "{}"), "added_tokens: a list is wanted"},
      {part("normalizer", R"({"type": "Nmt"})"), "normalizer \"Nmt\" is not supported"},
      {part("normalizer", "[]"), "an object with a \"type\""},
      {part("pre_tokenizer", R"({"type": "UnicodeScripts"})"), "\"UnicodeScripts\" is not supp"},
      {part("pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "(a"},
                                 "behavior": "Isolated"})"),
       "pattern: the pattern does not compile"},
      {part("pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "[a&&b]"},
                                 "behavior": "Isolated"})"),
       "&& in a class"},
      {part("pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "X"})"),
       "behavior: unknown \"X\""},
      {part("pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"},
                                 {"type": "Digits"}]})"),
       "after ByteLevel"},
      {part("decoder", R"({"type": "CTC"})"), "decoder \"CTC\" is not supported"},
      {part("post_processor", R"({"type": "Nope"})"), "post-processor \"Nope\" is not supported"},
      {part("post_processor", R"({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})"),
       "\"<s>\" with its ids is missing"},
      {part("post_processor", R"({"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
            "special_tokens": {"<s>": {"ids": [100000]}}})"),
       "id 100000 is not in the vocabulary"},
  };
  for (const auto& c : cases) {
    Json root = variant("llama3_style");
    c.change(root);
    put("tokenizer.json", root.dump());
    const std::string message = load_error();
    EXPECT_NE(message.find(c.message), std::string::npos) << message << "\nwanted: " << c.message;
    EXPECT_NE(message.find("tokenizer.json"), std::string::npos) << message;
  }
}

TEST_F(TokenizerFiles, TokenThatComesTwice) {
  put("tokenizer.json", R"({"model": {"vocab": {"a": 0, "b": 1, "a": 2}, "merges": []}})");
  EXPECT_NE(load_error().find("model.vocab: \"a\" is there twice"), std::string::npos);
}

TEST_F(TokenizerFiles, BrokenBytesAndDeepNesting) {
  put("tokenizer.json", "{\"model\": {\"vocab\": {\"\xff\": 1}}}");
  EXPECT_NE(load_error().find("not valid JSON"), std::string::npos);
  std::string deep = R"({"type": "NFC"})";
  for (int i = 0; i < 25; ++i) deep = R"({"type": "Sequence", "normalizers": [)" + deep + "]}";
  Json root = variant("llama3_style");
  root.set("normalizer", parsed(deep));
  put("tokenizer.json", root.dump());
  EXPECT_NE(load_error().find("nested deeper"), std::string::npos);
}

TEST_F(TokenizerFiles, PatternThatBacktracksForeverIsAnError) {
  Json root = variant("llama3_style");
  root.set("pre_tokenizer", parsed(R"x({"type": "Split", "pattern": {"Regex": "(a+)+(?=#)"
}
, "behavior" : "Isolated"
})x"));
  put("tokenizer.json", root.dump());
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_THROW((void)tokenizer->encode_ids(std::string(64, 'a'), {}), Error);
}

TEST_F(TokenizerFiles, NormalizerThatMultipliesTheTextIsAnError) {
  Json steps{Json::Array{}};
  for (int i = 0; i < 60; ++i)
    steps.array().push_back(
        parsed(R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"})"));
  Json root = variant("llama2_style");
  Json normalizer;
  normalizer.set("type", "Sequence");
  normalizer.set("normalizers", steps);
  root.set("normalizer", normalizer);
  put("tokenizer.json", root.dump());
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_THROW((void)tokenizer->encode_ids("a", {}), Error);
}

TEST_F(TokenizerFiles, ModelFileOfAnotherKind) {
  EXPECT_NE(load_error().find("no tokenizer"), std::string::npos);
  put("tokenizer.model", std::string("\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02", 17));
  EXPECT_NE(load_error().find("sentencepiece"), std::string::npos);
}

TEST_F(TokenizerFiles, MalformedTiktoken) {
  const auto line = [](int byte, int rank) {
    static constexpr char kAlphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return str(kAlphabet[byte >> 2], kAlphabet[(byte & 3) << 4], "== ", rank, "\n");
  };
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes += line(b, b);
  put("tokenizer.model", bytes + "YWI= 256\n");  // "ab"
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer->encode_ids("abc", {}), (std::vector<int32_t>{256, 'c'}));
  EXPECT_EQ(tokenizer->bos_id, 257);
  EXPECT_EQ(tokenizer->size(), 257 + 256);
  EXPECT_EQ(tokenizer->encode("c", {.add_special_tokens = true}).front().id, 257);

  const struct {
    std::string content;
    const char* message;
  } cases[] = {
      {line(0, 0), "no token for the byte 1"},
      {bytes + "YWI=\n", ":257: \"YWI=\": base64 and a rank"},
      {bytes + "YW!= 256\n", "base64 and a rank"},
      {bytes + "YWI= 7\n", "is there twice"},
      {bytes + "YQ== 300\n", "is there twice"},
      {bytes + "YWI= -4\n", "out of range"},
      {bytes + "YWI= 99999999999\n", "out of range"},
      {bytes + "YWI= 99999999999999999999999\n", "base64 and a rank"},
  };
  for (const auto& c : cases) {
    put("tokenizer.model", c.content);
    const std::string message = load_error();
    EXPECT_NE(message.find(c.message), std::string::npos) << message << "\nwanted: " << c.message;
  }
}

TEST_F(TokenizerFiles, ConfigNamesTokensAndReplacesTheTemplate) {
  put("tokenizer.json", variant("llama3_style").dump());
  put("tokenizer_config.json",
      R"({"bos_token": {"content": "<|begin_of_text|>"}, "model_max_length": 1e30,
      "eos_token": "<|eot_id|>", "pad_token": "[PAD]", "add_bos_token": false,
      "add_eos_token": true,
      "added_tokens_decoder": {"1600": {"content": "<new>", "special": true}}})");
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer->bos_id, 0);
  EXPECT_EQ(tokenizer->eos_id, 1);
  EXPECT_EQ(tokenizer->pad_token, "[PAD]");
  EXPECT_FALSE(tokenizer->pad_id);
  EXPECT_EQ(tokenizer->size(), 1601);
  EXPECT_TRUE(tokenizer->is_special(1600));
  const auto ids = tokenizer->encode_ids("<new>", {.add_special_tokens = true});
  EXPECT_EQ(ids, (std::vector<int32_t>{1600, 1}));

  put("tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "<new>"}}})");
  EXPECT_NE(load_error().find("contradicts tokenizer.json"), std::string::npos);
  put("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "<new>"}}})");
  EXPECT_NE(load_error().find("must be a token id"), std::string::npos);
}

TEST_F(TokenizerFiles, IdsOfTheModelNameTokensToo) {
  put("tokenizer.json", variant("llama3_style").dump());
  put("generation_config.json", R"({"bos_token_id": 0, "eos_token_id": [1, 3]})");
  put("config.json", R"({"eos_token_id": 2, "pad_token_id": 2})");
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer->bos_token, "<|begin_of_text|>");
  EXPECT_EQ(tokenizer->eos_id, 1);
  EXPECT_EQ(tokenizer->pad_id, 2);
}

}  // namespace
}  // namespace ft
