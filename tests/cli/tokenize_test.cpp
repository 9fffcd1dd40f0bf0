// `finetune tokenize` against the reference tokenizers and chat templates, line by line.
#include <chrono>
#include <iostream>
#include <map>

#include "cli/run_program.h"
#include "parity.h"

namespace ft {
namespace {

using Lines = std::vector<Json>;

/// One output line for each input line.
Lines tokenize_lines(const fs::path& model, const Lines& inputs,
                     const std::vector<std::string>& options = {}) {
  std::string text;
  for (const Json& line : inputs) text += line.dump() + "\n";
  std::vector<std::string> args = {"tokenize", "--model", model.string()};
  args.insert(args.end(), options.begin(), options.end());
  Lines lines = parse_lines(run_ok(args, text).out);
  EXPECT_EQ(lines.size(), inputs.size());
  lines.resize(inputs.size());
  return lines;
}

/// The member as text, "" when absent.
std::string field(const Json& line, const char* key) {
  const Json* found = line.get(key);
  return found ? found->dump() : "";
}

struct Reference {
  std::string name;
  bool special_stays_text = false;  ///< the reference reads no special tokens in text
};
void PrintTo(const Reference& r, std::ostream* out) {
  *out << r.name;
}

class TokenizeParity : public testing::TestWithParam<Reference> {};

/// A folder with the tokenizer files, and the reference lines.
std::pair<fs::path, fs::path> find_reference(const std::string& name) {
  const fs::path set = parity_folder();
  if (name.ends_with("_style"))
    return {test_data() / "tokenizer_variants" / name,
            test_data() / "tokenizer_variants" / name / "cases.jsonl"};
  const bool is_model_file = name == "llama2" || name == "llama3";
  const fs::path model = is_model_file ? set / "tokenizers" / name : real_model(name);
  return {model, set / "G_tokenizer" / (name + ".jsonl")};
}

TEST_P(TokenizeParity, IdsAndText) {
  const auto [model, file] = find_reference(GetParam().name);
  FT_NEEDS(model);
  FT_NEEDS(file);
  const Lines cases = read_json_lines(file);
  Lines texts, text_cases, ids;
  for (const Json& c : cases) {
    const Json* special = c.get("ids_special");
    // Special tokens are shown, so without "decoded" the ids must hold none.
    const bool shown = c.get("decoded") && special && c.get("text");
    ids.push_back(Json::Object{{"ids", shown ? *special : *c.get("ids")}});
    if (!c.get("text")) continue;
    texts.push_back(Json::Object{{"text", *c.get("text")}});
    text_cases.push_back(c);
  }
  const Lines decoded = tokenize_lines(model, ids);
  for (size_t i = 0; i < cases.size(); ++i) {
    const char* key = cases[i].get("decoded") ? "decoded" : "decoded_skip_special";
    EXPECT_EQ(field(decoded[i], "decoded"), field(cases[i], key)) << cases[i].dump();
  }
  std::vector<std::string> parse = {"--parse-special"};
  if (GetParam().special_stays_text) parse.clear();
  const Lines plain = tokenize_lines(model, texts), parsed = tokenize_lines(model, texts, parse);
  parse.push_back("--add-special-tokens");
  const Lines added = tokenize_lines(model, texts, parse);
  for (size_t i = 0; i < text_cases.size(); ++i) {
    const Json& c = text_cases[i];
    const Json* as_text = c.get("ids_special_as_text");
    EXPECT_EQ(field(parsed[i], "ids"), field(c, "ids")) << c.dump();
    EXPECT_EQ(field(added[i], "ids"), field(c, "ids_special")) << c.dump();
    if (as_text || c.get("category")->string() != "special_in_text") {
      EXPECT_EQ(field(plain[i], "ids"), as_text ? as_text->dump() : field(c, "ids")) << c.dump();
    }
    const Json* tokens = plain[i].get("tokens");
    ASSERT_TRUE(tokens && tokens->is_array()) << plain[i].dump();
    EXPECT_EQ(tokens->array().size(), plain[i].get("ids")->array().size());
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizeParity,
                         testing::Values(Reference{"smollm2"}, Reference{"gemma3-270m"},
                                         Reference{"llama3"}, Reference{"llama2", true},
                                         Reference{"smollm2_style"}, Reference{"llama3_style"},
                                         Reference{"llama2_style"}),
                         [](const auto& reference) {
                           std::string name = reference.param.name;
                           for (char& c : name)
                             if (c == '-') c = '_';
                           return name;
                         });

TEST(TokenizeModelFile, SentencePieceOfOurOwn) {
  for (const char* name : {"llama_like", "gemma_like", "unigram_like"}) {
    SCOPED_TRACE(name);
    const fs::path model = test_data() / "sentencepiece" / name;
    Lines texts, wanted;
    for (const Json& c : read_json_lines(model / "cases.jsonl")) {
      // A turn marker is special here and a word like others to the reference.
      if (!c.get("text") || c.get("text")->string().starts_with("<start_of_turn>")) continue;
      texts.push_back(Json::Object{{"text", *c.get("text")}});
      wanted.push_back(c);
    }
    const Lines got = tokenize_lines(model, texts);
    const Lines added = tokenize_lines(model, texts, {"--add-special-tokens"});
    for (size_t i = 0; i < texts.size(); ++i) {
      SCOPED_TRACE(wanted[i].dump());
      EXPECT_EQ(field(got[i], "ids"), field(wanted[i], "ids"));
      EXPECT_EQ(field(got[i], "decoded"), field(wanted[i], "decoded"));
      // BOS alone is added.
      EXPECT_EQ(added[i].get("ids")->array().size(), got[i].get("ids")->array().size() + 1);
    }
  }
}

// The 33 MB of Gemma 3's tokenizer.json are read in well under a second; the limit is loose, for
// machines that are busy.
TEST(TokenizeSpeed, LargeTokenizerJson) {
  const fs::path model = real_model("gemma3-270m");
  FT_NEEDS(model / "tokenizer.json");
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    tokenize_lines(model, {Json::Object{{"text", "hello"}}});
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count());
  }
  std::cout << best << " s\n";
  EXPECT_LT(best, 3.0);
}

/// The input line of a case: what the conversation is rendered with.
Json chat_line(const Json& c) {
  Json line = Json::Object{};
  for (const char* key :
       {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "now"})
    if (const Json* member = c.get_set(key)) line.set(key, *member);
  return line;
}

void expect_chat(const Json& got, const Json& wanted, bool same_tokenizer) {
  if (const Json* error = wanted.get_set("error")) {
    const Json* message = got.get("error");
    ASSERT_TRUE(message && message->is_string()) << got.dump();
    const std::string what = error->string().substr(error->string().find(": ") + 2);
    EXPECT_NE(message->string().find(what), std::string::npos) << message->string();
    return;
  }
  EXPECT_EQ(field(got, "rendered"), field(wanted, "rendered")) << got.dump();
  if (!same_tokenizer) return;
  EXPECT_EQ(field(got, "ids"), field(wanted, "ids"));
  if (const Json* mask = wanted.get_set("assistant_mask")) {
    EXPECT_EQ(field(got, "trained"), mask->dump());
  }
}

/// All cases of a file, those of a template and tokenizer in one run of the program.
void check_chats(const fs::path& cases, const fs::path& templates) {
  std::map<std::pair<std::string, std::string>, Lines> groups;
  for (const Json& c : read_json_lines(cases)) {
    const Json* tokenizer = c.get_set("tokenizer");
    groups[{c.get("template")->string(), tokenizer ? tokenizer->string() : ""}].push_back(c);
  }
  for (const auto& [key, group] : groups) {
    const auto& [name, tokenizer] = key;
    SCOPED_TRACE(name + " with " + tokenizer);
    fs::path model = tiny_model();
    if (!tokenizer.empty() && fs::exists(find_reference(tokenizer).first))
      model = find_reference(tokenizer).first;
    Lines inputs;
    for (const Json& c : group) inputs.push_back(chat_line(c));
    const Lines got = tokenize_lines(
        model, inputs,
        {"--chat-template", (templates / (name + ".jinja")).string(), "--parse-special"});
    for (size_t i = 0; i < group.size(); ++i) {
      SCOPED_TRACE(group[i].dump());
      expect_chat(got[i], group[i], model != tiny_model());
    }
  }
}

TEST(TokenizeChat, OwnTemplates) {
  check_chats(test_data() / "chat/cases.jsonl", test_data() / "chat");
}

TEST(TokenizeChat, ReferenceSet) {
  const fs::path folder = parity_folder() / "H_chat";
  FT_NEEDS(folder);
  check_chats(folder / "cases.jsonl", folder / "templates");
}

}  // namespace
}  // namespace ft
