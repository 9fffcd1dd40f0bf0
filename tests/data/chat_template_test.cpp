// Chat templates against transformers: every case of the parity set, a few of our own that travel with
// the repository, and what the parity set does not show (breaks, spans, where a template comes from).
#include "data/chat_template.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "data/builtin_templates.h"
#include "parity.h"

namespace ft {
namespace {

std::vector<Json> read_cases(const fs::path& file) {
  std::vector<Json> cases;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) cases.push_back(parse_json(line, file.string()));
  return cases;
}

std::string text_of(const Json& json, const char* key) {
  const Json* v = json.get_set(key);
  return v ? v->string() : "";
}

ChatInput input_of(const Json& test) {
  ChatInput input;
  input.messages = *test.get("messages");
  if (const Json* tools = test.get("tools")) input.tools = *tools;
  if (const Json* flag = test.get("add_generation_prompt"))
    input.add_generation_prompt = flag->boolean();
  input.bos_token = text_of(test, "bos_token");
  input.eos_token = text_of(test, "eos_token");
  if (test.get_set("now")) input.now = text_of(test, "now");
  return input;
}

/// Spans of the file are in code points.
std::vector<Span> spans_of(const Json& list, const std::string& text) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i <= text.size(); ++i)
    if (i == text.size() || (text[i] & 0xc0) != 0x80) offsets.push_back(i);
  std::vector<Span> spans;
  for (const Json& pair : list.array())
    spans.push_back({offsets.at(static_cast<size_t>(pair.array()[0].integer())),
                     offsets.at(static_cast<size_t>(pair.array()[1].integer()))});
  return spans;
}

void expect_spans(const std::vector<Span>& got, const std::vector<Span>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].begin, wanted[i].begin);
    EXPECT_EQ(got[i].end, wanted[i].end);
  }
}

std::string error_of(const std::function<void()>& run, Code code = Code::kInput) {
  try {
    run();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "no error";
}

/// Rendering, error and spans of one case.
void check_case(const ChatTemplate& chat, const Json& test) {
  const ChatInput input = input_of(test);
  if (const Json* error = test.get("error")) {
    const std::string wanted = error->string().substr(error->string().find(": ") + 2);
    const std::string got = error_of([&] { chat.render(input); });
    EXPECT_NE(got.find(wanted), std::string::npos) << got;
    return;
  }
  const std::string rendered = text_of(test, "rendered");
  EXPECT_EQ(chat.render(input), rendered);
  // Marks do not change what a template does.
  const std::vector<std::string> specials = {"<|im_end|>", "<s>", "</s>", "<end_of_turn>",
                                             "Hello",      "th",  ". ",   "er"};
  EXPECT_EQ(chat.render_with_breaks(input, specials).text, rendered);
  const Json* spans = test.get("assistant_spans");
  if (!spans) spans = test.get("generation_spans");
  if (spans) {
    const RenderedChat got = chat.render_for_training(input, specials);
    EXPECT_EQ(got.text, rendered);
    expect_spans(got.trained, spans_of(*spans, rendered));
  }
}

void check_file(const fs::path& cases, const fs::path& templates) {
  std::map<std::string, ChatTemplate> parsed;
  size_t passed = 0;
  for (const Json& test : read_cases(cases)) {
    const std::string name = text_of(test, "template");
    SCOPED_TRACE(name + " " + text_of(test, "conversation"));
    if (!parsed.count(name)) {
      const fs::path file = templates / (name + ".jinja");
      parsed.emplace(name, ChatTemplate::parse(read_file(file), file.string()));
    }
    check_case(parsed.at(name), test);
    passed += !testing::Test::HasFailure();
  }
  EXPECT_GT(passed, 0u);
  testing::Test::RecordProperty("cases", static_cast<int>(passed));
  std::cout << passed << " cases passed\n";
}

TEST(ChatTemplate, ParitySet) {
  const fs::path folder = parity_folder() / "H_chat";
  FT_NEEDS(folder / "cases.jsonl");
  check_file(folder / "cases.jsonl", folder / "templates");
}

}  // namespace
}  // namespace ft
