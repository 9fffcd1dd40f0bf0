// Tokenizers against the reference's ids, ranges and decoded texts; special tokens, breaks, broken
// UTF-8, malformed files, and that long runs stay fast. The large reference sets are skipped where
// absent.
#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <map>

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

TEST(TokenizerParity, Smollm2) {
  const fs::path cases = parity_folder() / "G_tokenizer" / "smollm2.jsonl";
  FT_NEEDS(cases);
  FT_NEEDS(assets_folder() / "smollm2" / "tokenizer.json");
  run_cases(*Tokenizer::load(assets_folder() / "smollm2"), cases, true);
}
TEST(TokenizerParity, Gemma3) {
  const fs::path cases = parity_folder() / "G_tokenizer" / "gemma3-270m.jsonl";
  FT_NEEDS(cases);
  FT_NEEDS(assets_folder() / "gemma3-270m" / "tokenizer.json");
  run_cases(*Tokenizer::load(assets_folder() / "gemma3-270m"), cases, false);
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
        name == "llama3" ? parity_folder() / "tokenizers" / name : assets_folder() / name;
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

}  // namespace
}  // namespace ft
