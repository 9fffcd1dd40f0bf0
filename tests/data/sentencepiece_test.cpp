// Sentencepiece models: cases of the reference library (scripts/make_sentencepiece_cases.py),
// special tokens and the files beside the model, and models that are cut short, damaged or crafted.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iostream>
#include <random>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "parity.h"

namespace ft {
namespace {

using Ids = std::vector<int32_t>;

std::vector<Json> read_lines(const fs::path& file) {
  std::vector<Json> lines;
  const std::string content = read_file(file);
  for (size_t at = 0; at < content.size();) {
    const size_t end = content.find('\n', at);
    lines.push_back(parse_json(std::string_view(content).substr(at, end - at), "line"));
    at = end + 1;
  }
  return lines;
}

Ids id_list(const Json& json) {
  Ids ids;
  for (const Json& id : json.array()) ids.push_back(static_cast<int32_t>(id.integer()));
  return ids;
}

fs::path model_folder(const char* name) {
  return test_data() / "sentencepiece" / name;
}

/// The library gives the whole of a character that became byte pieces to the last of them, and the
/// others none; here each has its byte.
void check_range(const Token& token, const Json& wanted, bool is_byte) {
  const int64_t begin = wanted.array()[0].integer(), end = wanted.array()[1].integer();
  if (!is_byte) {
    EXPECT_EQ(token.begin, begin);
    EXPECT_EQ(token.end, end);
  } else {
    EXPECT_LE(begin, token.begin);
    EXPECT_EQ(token.end, token.begin + 1);
    if (end > begin) {
      EXPECT_EQ(token.end, end);
    }
  }
}

class SentencePieceCases : public testing::TestWithParam<const char*> {};

TEST_P(SentencePieceCases, AsTheReferenceLibrary) {
  const auto tokenizer = Tokenizer::load(model_folder(GetParam()));
  size_t texts = 0, all = 0;
  for (const Json& line : read_lines(model_folder(GetParam()) / "cases.jsonl")) {
    SCOPED_TRACE(line.dump());
    const Ids ids = id_list(*line.get("ids"));
    // To the library a user-defined turn marker is a piece like others, here it is a special token.
    const bool has_marker = std::any_of(ids.begin(), ids.end(), [&](int32_t id) {
      return tokenizer->is_special(id) && tokenizer->piece(id).ends_with("_of_turn>");
    });
    EXPECT_EQ(tokenizer->decode(ids, !has_marker), line.get("decoded")->string());
    ++all;
    if (!line.get("text")) continue;
    ++texts;
    const std::string& text = line.get("text")->string();
    const auto tokens = tokenizer->encode(text, {.parse_special = has_marker});
    ASSERT_EQ(tokens.size(), ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(tokens[i].id, ids[i]) << i;
      check_range(tokens[i], line.get("ranges")->array()[i],
                  tokenizer->piece(ids[i]).starts_with("<0x"));
    }
  }
  std::cout << GetParam() << ": " << texts << " texts, " << all << " decoded\n";
}

INSTANTIATE_TEST_SUITE_P(All, SentencePieceCases,
                         testing::Values("llama_like", "gemma_like", "unigram_like"),
                         [](const auto& model) { return std::string(model.param); });

TEST(SentencePieceParity, Llama2) {
  const fs::path folder = parity_folder() / "tokenizers" / "llama2";
  const fs::path cases = parity_folder() / "G_tokenizer" / "llama2.jsonl";
  FT_NEEDS(folder);
  FT_NEEDS(cases);
  const auto tokenizer = Tokenizer::load(folder);
  EXPECT_EQ(tokenizer->bos_id, 1);
  EXPECT_EQ(tokenizer->eos_id, 2);
  EXPECT_FALSE(tokenizer->pad_id);
  EXPECT_EQ(tokenizer->size(), 32000);
  size_t lines = 0;
  for (const Json& line : read_lines(cases)) {
    SCOPED_TRACE(line.dump());
    const Ids ids = id_list(*line.get("ids"));
    EXPECT_EQ(tokenizer->decode(ids), line.get("decoded_skip_special")->string());
    ++lines;
    if (!line.get("text")) continue;
    const std::string& text = line.get("text")->string();
    EXPECT_EQ(tokenizer->encode_ids(text, {.parse_special = false}), ids);
    EXPECT_EQ(tokenizer->encode_ids(text, {.add_special_tokens = true, .parse_special = false}),
              id_list(*line.get("ids_special")));
  }
  std::cout << lines << " lines\n";
}

TEST(SentencePiece, SpecialTokensOnlyWhereTheyMayBeRead) {
  const auto llama = Tokenizer::load(model_folder("llama_like"));
  const auto has = [](const Ids& list, int32_t id) {
    return std::count(list.begin(), list.end(), id) > 0;
  };
  const std::string text = "<s>[INST] hi [/INST] yes </s>";
  const Ids parsed = llama->encode_ids(text, {});
  EXPECT_EQ(parsed.front(), 1);
  EXPECT_EQ(parsed.back(), 2);
  EXPECT_EQ(llama->decode(parsed), text);
  const Ids as_text = llama->encode_ids(text, {.parse_special = false});
  EXPECT_FALSE(has(as_text, 1));
  EXPECT_FALSE(has(as_text, 2));
  EXPECT_EQ(llama->decode(as_text), text);
  // Each part between special tokens is a text of its own, as in Meta's dialogs.
  Ids parts = {1};
  const Ids part = llama->encode_ids("[INST] hi [/INST] yes ", {});
  parts.insert(parts.end(), part.begin(), part.end());
  parts.push_back(2);
  EXPECT_EQ(parsed, parts);

  const auto gemma = Tokenizer::load(model_folder("gemma_like"));
  const int32_t turn = *gemma->id_of("<start_of_turn>");
  const std::vector<size_t> cut = {1}, edges = {0, 15};
  EXPECT_TRUE(has(gemma->encode_ids("<start_of_turn>x", {}), turn));
  EXPECT_TRUE(has(gemma->encode_ids("<start_of_turn>x", {.breaks = edges}), turn));
  EXPECT_FALSE(has(gemma->encode_ids("<start_of_turn>x", {.breaks = cut}), turn));
  EXPECT_FALSE(has(gemma->encode_ids("<start_of_turn>x", {.parse_special = false}), turn));
  EXPECT_TRUE(gemma->is_special(turn));
  EXPECT_TRUE(gemma->is_special(*gemma->id_of("<unused1>")));
  // Words that a user may write are found always.
  const int32_t table = *gemma->id_of("<table>");
  EXPECT_TRUE(has(gemma->encode_ids("a <table>", {.parse_special = false}), table));
  EXPECT_FALSE(gemma->is_special(table));
  const auto specials = gemma->special_texts();
  EXPECT_EQ(std::count(specials.begin(), specials.end(), "<start_of_turn>"), 1);
  EXPECT_EQ(std::count(specials.begin(), specials.end(), "\n\n"), 0);
}

TEST(SentencePiece, SpecialTokensAreShownOrSkipped) {
  const auto gemma = Tokenizer::load(model_folder("gemma_like"));
  const std::string text = "<bos><start_of_turn>user\nhi<end_of_turn>\n";
  const Ids ids = gemma->encode_ids(text, {});
  EXPECT_EQ(gemma->decode(ids), text);
  EXPECT_EQ(gemma->decode(ids, true), "user\nhi\n");
  EXPECT_EQ(gemma->decode(Ids{-1, 1 << 20}), "");
  EXPECT_EQ(gemma->encode("x", {.add_special_tokens = true}).front().id, *gemma->bos_id);
  EXPECT_EQ(gemma->encode("x", {.add_special_tokens = true}).size(), 2u);  // no EOS
  EXPECT_EQ(gemma->pad_id, 0);
  EXPECT_EQ(gemma->eos_token, "<eos>");
}

TEST(SentencePiece, LongRunsStayFast) {
  for (const char* name : {"llama_like", "gemma_like", "unigram_like"}) {
    const auto tokenizer = Tokenizer::load(model_folder(name));
    for (const char* unit : {"a", " ", "ab ", "\n", "\u4e2d", "the lamp "}) {
      std::string text;
      while (text.size() < 300000) text += unit;
      const auto start = std::chrono::steady_clock::now();
      const Ids ids = tokenizer->encode_ids(text, {});
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
      EXPECT_LT(spent.count(), 20.0) << name << " " << unit;  // quadratic would be minutes
    }
  }
}

class SentencePieceFiles : public testing::Test {
 protected:
  fs::path folder_;
  std::string model_ = read_file(model_folder("llama_like") / "tokenizer.model");

  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(testing::TempDir()) / str("sentencepiece_", info->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void put(const char* name, std::string_view content) { write_file(folder_ / name, content); }

  /// What loading and a little work end with: the Error's one line, or nothing.
  std::string outcome() {
    try {
      const auto tokenizer = Tokenizer::load(folder_);
      const Ids ids = tokenizer->encode_ids("Hello <s> w\u00f6rld 123 \u4f60\U0001F642\xff", {});
      (void)tokenizer->decode(ids);
      (void)tokenizer->decode(Ids{0, 1, 2, 3, 4, 260, 300});
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInput);
      EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos);
      return e.what();
    }
    return {};
  }
};

TEST_F(SentencePieceFiles, FilesBesideTheModel) {
  put("tokenizer.model", model_);
  put("added_tokens.json", R"({"<tool>": 900, "<|im_end|>": 901})");
  put("tokenizer_config.json",
      R"({"bos_token": {"content": "<s>"}, "eos_token": "<|im_end|>", "pad_token": "<unk>",
          "add_bos_token": false, "add_eos_token": true, "legacy": false,
          "additional_special_tokens": ["<|im_end|>"],
          "added_tokens_decoder": {"0": {"content": "<unk>", "special": true},
                                   "902": {"content": "<new>", "special": true}}})");
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer->size(), 903);
  EXPECT_EQ(tokenizer->eos_id, 901);
  EXPECT_EQ(tokenizer->pad_id, 0);
  EXPECT_TRUE(tokenizer->is_special(901));
  EXPECT_TRUE(tokenizer->is_special(902));
  EXPECT_FALSE(tokenizer->is_special(900));
  const Ids ids = tokenizer->encode_ids("<tool><new>", {.add_special_tokens = true});
  EXPECT_EQ(ids, (Ids{900, 902, 901}));
  EXPECT_EQ(tokenizer->decode(ids), "<tool><new><|im_end|>");
  EXPECT_EQ(tokenizer->decode(ids, true), "<tool>");
  EXPECT_EQ(tokenizer->piece(901), "<|im_end|>");
  EXPECT_EQ(tokenizer->encode_ids("<tool>", {.parse_special = false}), (Ids{900}));
  // "legacy": false puts the space before the whole text only.
  const Ids after = tokenizer->encode_ids("<new>hi", {});
  const Ids alone = tokenizer->encode_ids("hi", {});
  EXPECT_NE(Ids(after.begin() + 1, after.end()), alone);
  EXPECT_EQ(tokenizer->piece(alone.front()).substr(0, 3), "\u2581");
  EXPECT_NE(tokenizer->piece(after[1]).substr(0, 3), "\u2581");
  EXPECT_EQ(tokenizer->decode(after), "<new>hi");

  put("added_tokens.json", R"({"<tool>": 5})");
  EXPECT_NE(outcome().find("contradicts tokenizer.model"), std::string::npos);
  put("added_tokens.json", R"({"<tool>": "x"})");
  EXPECT_NE(outcome().find("a token id is wanted"), std::string::npos);
}

TEST_F(SentencePieceFiles, CutShortOrDamaged) {
  size_t refused = 0, runs = 0;
  const auto attempt = [&](const std::string& content) {
    put("tokenizer.model", content);
    refused += !outcome().empty();
    ++runs;
  };
  for (const char* name : {"llama_like", "gemma_like", "unigram_like"}) {
    const std::string whole = read_file(model_folder(name) / "tokenizer.model");
    std::mt19937 random(1);
    for (int i = 0; i < 60; ++i) attempt(whole.substr(0, random() % whole.size()));
    for (int i = 0; i < 150; ++i) {
      std::string damaged = whole;
      // The settings stand at the end, after thousands of bytes of pieces.
      const size_t span = i % 2 == 0 ? damaged.size() : std::min<size_t>(damaged.size(), 1500);
      for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips)
        damaged[damaged.size() - 1 - random() % span] ^= static_cast<char>(1 << random() % 8);
      attempt(damaged);
    }
  }
  EXPECT_GT(refused, 100u);
  std::cout << refused << " of " << runs << " refused\n";
}

// A message in the wire format of protocol buffers.
std::string varint(uint64_t value) {
  std::string out;
  for (; value > 127; value >>= 7) out += static_cast<char>((value & 127) | 128);
  return out + static_cast<char>(value);
}
std::string bytes_field(uint32_t number, const std::string& content) {
  return varint(number << 3 | 2) + varint(content.size()) + content;
}
std::string number_field(uint32_t number, uint64_t value) {
  return varint(number << 3) + varint(value);
}
std::string piece(const std::string& text, int type) {
  return bytes_field(1, bytes_field(1, text) + number_field(3, static_cast<uint64_t>(type)));
}

TEST_F(SentencePieceFiles, Crafted) {
  const std::string unk = piece("<unk>", 2), bpe = bytes_field(2, number_field(3, 2));
  // 1024 bytes of table, then what it points into.
  const auto rules = [](const std::string& texts) {
    return bytes_field(
        3, bytes_field(2, std::string("\0\4\0\0", 4) + std::string(1024, '\0') + texts));
  };
  const struct {
    std::string content;
    const char* message;
  } cases[] = {
      {"", "no pieces"},
      {"not a model at all", "neither a sentencepiece model nor"},
      {std::string(64, '\xff'), "neither a sentencepiece model nor"},
      {bytes_field(1, "\x0a\xff\xff\xff\xff\x0f"), "neither a sentencepiece model nor"},
      {unk + unk + bpe, "\"<unk>\" is there twice"},
      {piece("a", 1) + bpe, "unk is not defined"},
      {unk + piece("<x>", 2) + bpe, "unk is already defined"},
      {unk + piece("", 1) + bpe, "piece must not be empty"},
      {unk + piece(std::string(9000, 'a'), 1) + bpe, "piece is too long"},
      {unk + piece("\xff", 1) + bpe, "is not UTF-8"},
      {unk + piece("<0x41>", 6) + bpe, "byte_fallback"},
      {unk + bytes_field(2, number_field(35, 1)), "256 byte pieces"},
      {unk + bpe + rules("x"), "null terminated"},
      {unk + bpe + rules(std::string("x\0", 2)), "precompiled_charsmap is invalid"},
      {unk + bpe + rules(std::string(5000, 'x') + '\0'), "a character would become 5000 bytes"},
      {unk + bytes_field(2, bytes_field(44, std::string(5000, 'x'))), "unk_surface has 5000 bytes"},
  };
  for (const auto& c : cases) {
    put("tokenizer.model", c.content);
    const std::string message = outcome();
    EXPECT_NE(message.find(c.message), std::string::npos) << message << "\nwanted: " << c.message;
    EXPECT_NE(message.find("tokenizer.model: "), std::string::npos) << message;
  }
  // A type and a field of the future are passed over.
  put("tokenizer.model", unk + piece("a", 77) + bpe + number_field(99, 1));
  EXPECT_EQ(outcome(), "");
  EXPECT_EQ(Tokenizer::load(folder_)->encode_ids("a", {}).size(), 2u);  // the space is unknown
}

}  // namespace
}  // namespace ft
