// Tokenizers against the reference's ids, ranges and decoded texts; special tokens, breaks, broken
// UTF-8, malformed files, and that long runs stay fast. The large reference sets are skipped where
// absent.
#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <thread>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "data/split_pattern.h"
#include "data/utf8.h"
#include "parity.h"

namespace ft {
namespace {

std::vector<Json> read_lines(const fs::path& file) {
  std::vector<Json> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    lines.push_back(parse_json(line, str(file.string(), ":", lines.size() + 1)));
  return lines;
}

std::vector<int32_t> int_list(const Json& json) {
  std::vector<int32_t> ids;
  for (const Json& id : json.array()) ids.push_back(static_cast<int32_t>(id.integer()));
  return ids;
}

EncodeOptions options(bool add_special, bool parse_special = true) {
  EncodeOptions result;
  result.add_special_tokens = add_special;
  result.parse_special = parse_special;
  return result;
}

/// Ranges lie in the text, in order; byte-level ones meet without a gap.
void check_ranges(const std::vector<Token>& tokens, std::string_view text, bool exact) {
  uint32_t done = 0;
  for (const Token& token : tokens) {
    EXPECT_LE(token.begin, token.end);
    EXPECT_LE(token.end, text.size());
    EXPECT_GE(token.end, done);
    if (exact) {
      EXPECT_EQ(token.begin, done);
    }
    done = token.end;
  }
  if (exact) {
    EXPECT_EQ(done, text.size());
  }
}

/// Every line of a reference file, all of its fields. Returns how many lines passed.
size_t run_cases(const Tokenizer& tokenizer, const fs::path& file, bool exact_ranges) {
  size_t passed = 0;
  const std::vector<Json> lines = read_lines(file);
  for (const Json& line : lines) {
    const bool failed_before = testing::Test::HasFailure();
    const auto ids = int_list(*line.get("ids"));
    std::vector<int32_t> decoded_ids = ids;
    if (const Json* json = line.get("text")) {
      const std::string& text = json->string();
      const auto tokens = tokenizer.encode(text, options(false));
      EXPECT_EQ(tokenizer.encode_ids(text, options(false)), ids);
      check_ranges(tokens, text, exact_ranges);
      decoded_ids = int_list(*line.get("ids_special"));
      EXPECT_EQ(tokenizer.encode_ids(text, options(true)), decoded_ids);
      if (const Json* as_text = line.get("ids_special_as_text")) {
        EXPECT_EQ(tokenizer.encode_ids(text, options(false, false)), int_list(*as_text));
      }
    }
    if (const Json* decoded = line.get("decoded")) {
      EXPECT_EQ(tokenizer.decode(decoded_ids), decoded->string());
    }
    EXPECT_EQ(tokenizer.decode(decoded_ids, true), line.get("decoded_skip_special")->string());
    if (testing::Test::HasFailure() && !failed_before)
      ADD_FAILURE() << "first failing line: n = " << line.get("n")->integer();
    passed += !testing::Test::HasFailure();
  }
  std::cout << file.parent_path().filename() / file.filename() << ": " << passed << " of "
            << lines.size() << " lines\n";
  EXPECT_EQ(passed, lines.size());
  return passed;
}

fs::path variant(const char* name) {
  return test_data() / "tokenizer_variants" / name;
}

TEST(Tokenizer, Llama2StyleCases) {
  run_cases(*Tokenizer::load(variant("llama2_style")), variant("llama2_style") / "cases.jsonl",
            false);
}
TEST(Tokenizer, Llama3StyleCases) {
  run_cases(*Tokenizer::load(variant("llama3_style")), variant("llama3_style") / "cases.jsonl",
            true);
}
TEST(Tokenizer, Smollm2StyleCases) {
  run_cases(*Tokenizer::load(variant("smollm2_style")), variant("smollm2_style") / "cases.jsonl",
            true);
}

/// One part of the pipeline each (scripts/make_tokenizer_cases.py).
TEST(Tokenizer, PartsCases) {
  for (const fs::path& part : list_folder(test_data() / "tokenizer_parts"))
    run_cases(*Tokenizer::load(part), part / "cases.jsonl", false);
}

TEST(TokenizerParity, Smollm2) {
  const fs::path cases = parity_folder() / "G_tokenizer" / "smollm2.jsonl";
  FT_NEEDS(cases);
  FT_NEEDS(real_model("smollm2") / "tokenizer.json");
  run_cases(*Tokenizer::load(real_model("smollm2")), cases, true);
}
TEST(TokenizerParity, Gemma3) {
  const fs::path cases = parity_folder() / "G_tokenizer" / "gemma3-270m.jsonl";
  FT_NEEDS(cases);
  FT_NEEDS(real_model("gemma3-270m") / "tokenizer.json");
  run_cases(*Tokenizer::load(real_model("gemma3-270m")), cases, false);
}
TEST(TokenizerParity, Llama3Tiktoken) {
  const fs::path cases = parity_folder() / "G_tokenizer" / "llama3.jsonl";
  FT_NEEDS(cases);
  const auto tokenizer = Tokenizer::load(parity_folder() / "tokenizers" / "llama3");
  run_cases(*tokenizer, cases, true);
  EXPECT_EQ(tokenizer->bos_id, 128000);
  EXPECT_EQ(tokenizer->id_of("<|finetune_right_pad_id|>"), 128004);
  EXPECT_EQ(tokenizer->id_of("<|eom_id|>"), 128008);
  EXPECT_EQ(tokenizer->id_of("<|eot_id|>"), 128009);
  EXPECT_EQ(tokenizer->id_of("<|python_tag|>"), 128010);
  EXPECT_EQ(tokenizer->id_of("<|reserved_special_token_5|>"), 128015);
  EXPECT_EQ(tokenizer->size(), 128256);
}

TEST(TokenizerParity, ChatIdsAndAssistantMask) {
  const fs::path cases = parity_folder() / "H_chat" / "cases.jsonl";
  FT_NEEDS(cases);
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  size_t checked = 0, masks = 0;
  for (const Json& line : read_lines(cases)) {
    if (!line.get("ids")) continue;
    const std::string name = line.get("tokenizer")->string();
    const fs::path folder =
        name == "llama3" ? parity_folder() / "tokenizers" / name : real_model(name);
    if (!fs::exists(folder)) continue;
    if (!tokenizers[name]) tokenizers[name] = Tokenizer::load(folder);
    const std::string& text = line.get("rendered")->string();
    const auto tokens = tokenizers[name]->encode(text, options(false));
    std::vector<int32_t> ids;
    for (const Token& token : tokens) ids.push_back(token.id);
    EXPECT_EQ(ids, int_list(*line.get("ids"))) << printable(text);
    ++checked;
    const Json* mask = line.get("assistant_mask");
    if (!mask) continue;
    std::vector<uint32_t> index;  // byte -> code point
    uint32_t points = 0;
    for (const char c : text) index.push_back((c & 0xc0) == 0x80 ? points - 1 : points++);
    std::vector<int32_t> found;
    for (const Token& token : tokens) {
      bool inside = false;
      for (const Json& span : line.get("assistant_spans")->array())
        inside |= index[token.begin] >= span.array()[0].integer() &&
                  index[token.begin] < span.array()[1].integer();
      found.push_back(inside);
    }
    EXPECT_EQ(found, int_list(*mask)) << printable(text);
    ++masks;
  }
  std::cout << "chat: " << checked << " id lists, " << masks << " masks\n";
}

TEST(Tokenizer, BreaksKeepSpecialTextApart) {
  const auto tokenizer = Tokenizer::load(variant("smollm2_style"));
  const std::string text = "<|im_start|>x<tool>";
  const auto ids = [&](std::vector<size_t> breaks) {
    EncodeOptions with;
    with.breaks = breaks;
    return tokenizer->encode_ids(text, with);
  };
  const auto has = [](const std::vector<int32_t>& list, int32_t id) {
    return std::count(list.begin(), list.end(), id) > 0;
  };
  EXPECT_TRUE(has(ids({0, 12, 13, 19}), 1));  // breaks at its edges do no harm
  EXPECT_TRUE(has(ids({0, 12, 13, 19}), 1500));
  EXPECT_FALSE(has(ids({6}), 1));
  EXPECT_TRUE(has(ids({6}), 1500));
  EXPECT_FALSE(has(ids({6, 18}), 1500));
  EXPECT_EQ(tokenizer->decode(ids({6, 18})), text);
  // Special tokens as text; other added tokens are still found.
  const auto as_text = tokenizer->encode_ids(text, options(false, false));
  EXPECT_FALSE(has(as_text, 1));
  EXPECT_TRUE(has(as_text, 1500));
}

TEST(Tokenizer, BrokenUtf8BecomesItsBytes) {
  const std::string text = "ab\xff\xe4\xbd <|im_end|>\x80";
  const auto byte_level = Tokenizer::load(variant("smollm2_style"));
  const auto tokens = byte_level->encode(text, {});
  check_ranges(tokens, text, true);
  EXPECT_EQ(tokens.back().id, byte_level->id_of(spell_bytes("\x80")));
  EXPECT_EQ(tokens[tokens.size() - 2].id, 2);
  EXPECT_EQ(byte_level->decode(byte_level->encode_ids(text, {})),
            "ab\ufffd\ufffd <|im_end|>\ufffd");
  const auto fallback = Tokenizer::load(variant("llama2_style"));
  const auto bytes = fallback->encode("a\xff", {});
  EXPECT_EQ(fallback->piece(bytes.back().id), "<0xFF>");
  EXPECT_EQ(bytes.back().begin, 1u);
  EXPECT_EQ(bytes.back().end, 2u);
}

TEST(Tokenizer, RangesGoThroughNormalizers) {
  const auto tokenizer = Tokenizer::load(variant("llama2_style"));
  const std::string text = "the \u4f60\U0001F642";
  const auto tokens = tokenizer->encode(text, options(true));
  ASSERT_EQ(tokens.size(), 8u);  // <s>, the, space, one character, four bytes
  EXPECT_EQ(tokens[0].end, 0u);
  EXPECT_EQ(tokenizer->piece(tokens[1].id), "\u2581the");
  EXPECT_EQ(tokens[1].begin, 0u);
  EXPECT_EQ(tokens[1].end, 3u);
  EXPECT_EQ(tokens[2].begin, 3u);
  EXPECT_EQ(tokens[2].end, 4u);
  EXPECT_EQ(tokens[3].begin, 4u);
  EXPECT_EQ(tokens[3].end, 7u);
  EXPECT_EQ(tokens[7].begin, 10u);
  EXPECT_EQ(tokens[7].end, 11u);
}

TEST(Tokenizer, LongRunsAreNotQuadratic) {
  for (const char* name : {"llama2_style", "llama3_style", "smollm2_style"}) {
    const auto tokenizer = Tokenizer::load(variant(name));
    for (const char* unit : {"a", " ", "\n", "\u4f60", "ab", "="}) {
      std::string text;
      while (text.size() < 1000000) text += unit;
      const auto start = std::chrono::steady_clock::now();
      const auto ids = tokenizer->encode_ids(text, {});
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      EXPECT_LT(seconds.count(), 20) << name << " " << unit;  // quadratic would be an hour
      EXPECT_EQ(tokenizer->decode(ids), text) << name;
    }
  }
}

TEST(Tokenizer, ThreadsShareOne) {
  const auto tokenizer = Tokenizer::load(variant("llama3_style"));
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "word" + std::to_string(i * i) + " and more\n";
  const auto expected = tokenizer->encode_ids(text, {});
  std::vector<std::vector<int32_t>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) threads.emplace_back([&] { ids = tokenizer->encode_ids(text, {}); });
  for (auto& thread : threads) thread.join();
  for (const auto& ids : found) EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, CountsAndNames) {
  const auto tokenizer = Tokenizer::load(variant("smollm2_style"));
  EXPECT_EQ(tokenizer->size(), 1503);
  EXPECT_EQ(tokenizer->id_of("<tool>"), 1500);
  EXPECT_FALSE(tokenizer->id_of("no such token"));
  EXPECT_TRUE(tokenizer->is_special(1));
  EXPECT_FALSE(tokenizer->is_special(1500));
  EXPECT_EQ(tokenizer->special_texts().size(), 3u);
  EXPECT_EQ(tokenizer->piece(1 << 20), "");
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{-1, 1 << 20, 1500}), "<tool>");
  EXPECT_TRUE(tokenizer->encode("", {}).empty());
}

}  // namespace
}  // namespace ft
