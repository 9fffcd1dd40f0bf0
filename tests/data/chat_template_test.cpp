// Chat templates against transformers: every case of the parity set, a few of our own that travel
// with the repository, and what the parity set does not show (breaks, spans, where a template comes
// from).
#include "data/chat_template.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
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

TEST(ChatTemplate, OwnCases) {
  check_file(test_data() / "chat" / "cases.jsonl", test_data() / "chat");
}

ChatInput chat(const std::string& messages, bool add_generation_prompt = false) {
  ChatInput input;
  input.messages = parse_json(messages, "test");
  input.add_generation_prompt = add_generation_prompt;
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  return input;
}

constexpr const char* kTurns =
    R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hi "},
        {"role": "assistant", "content": " Yes. "}, {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."}])";

std::string trained_text(const RenderedChat& rendered) {
  std::string out;
  for (const Span& span : rendered.trained)
    out += "[" + rendered.text.substr(span.begin, span.end - span.begin) + "]";
  return out;
}

ChatTemplate builtin(const std::string& name) {
  return *ChatTemplate::load(name, "nowhere");
}

TEST(ChatTemplate, BuiltinLayouts) {
  const auto check = [](const char* name, const std::string& text, const std::string& trained) {
    SCOPED_TRACE(name);
    const RenderedChat got = builtin(name).render_for_training(chat(kTurns), {});
    EXPECT_EQ(got.text, text);
    EXPECT_EQ(trained_text(got), trained);
  };
  check("gemma",
        "<s><start_of_turn>user\nBe "
        "brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYes.<end_of_turn>\n"
        "<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\nSo.<end_of_turn>\n",
        "[Yes.<end_of_turn>\n][So.<end_of_turn>\n]");
  check("llama2",
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Yes. </s><s>[INST] Why? [/INST] So. "
        "</s>",
        "[ Yes. </s>][ So. </s>]");
  check("llama3",
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nSo.<|eot_id|>",
        "[Yes.<|eot_id|>][So.<|eot_id|>]");
  check("chatml",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
        "<|im_start|>assistant\n Yes. <|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\nSo.<|im_end|>\n",
        "[ Yes. <|im_end|>\n][So.<|im_end|>\n]");
  EXPECT_EQ(builtin("mistral").render(chat(
                R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])")),
            "<s>[INST] a [/INST]b</s>");
  EXPECT_NE(error_of([] { builtin("mistral").render(chat(kTurns)); }).find("roles must alternate"),
            std::string::npos);
  for (const BuiltinTemplate& entry : builtin_templates()) {
    const std::string prompt = builtin(std::string(entry.name))
                                   .render(chat(R"([{"role": "user", "content": "a"}])", true));
    EXPECT_NE(prompt.find('a'), std::string::npos) << entry.name;
  }
}

/// The built-in templates render what the families' published ones do, spans included.
TEST(ChatTemplate, BuiltinsMatchTheParitySet) {
  const fs::path file = parity_folder() / "H_chat" / "cases.jsonl";
  FT_NEEDS(file);
  const std::map<std::string, std::string> names = {
      {"gemma3", "gemma"}, {"llama2", "llama2"}, {"chatml", "chatml"}, {"mistral_v02", "mistral"}};
  int checked = 0;
  for (const Json& test : read_cases(file)) {
    const auto name = names.find(text_of(test, "template"));
    if (name == names.end()) continue;
    SCOPED_TRACE(name->second + " " + text_of(test, "conversation"));
    check_case(builtin(name->second), test);
    ++checked;
  }
  EXPECT_GT(checked, 100);
}

/// Llama 3 is Llama 3.1 without the dates that 3.1 puts into a system message, and without the
/// message where they are all it has.
TEST(ChatTemplate, BuiltinLlama3MatchesLlama31) {
  const fs::path file = parity_folder() / "H_chat" / "cases.jsonl";
  FT_NEEDS(file);
  int checked = 0;
  for (const Json& test : read_cases(file)) {
    if (text_of(test, "template") != "llama31" || test.get_set("tools")) continue;
    const Json::Array& messages = test.get("messages")->array();
    const auto is_plain = [](const Json& m) {
      const std::string& role = m.get("role")->string();
      return (role == "user" || role == "assistant" || role == "system") && m.get("content") &&
             m.get("content")->is_string() && !m.get_set("tool_calls");
    };
    if (!std::all_of(messages.begin(), messages.end(), is_plain)) continue;
    std::string wanted = text_of(test, "rendered");
    const size_t dates = wanted.find("Cutting Knowledge Date:");
    ASSERT_NE(dates, std::string::npos);
    wanted.erase(dates, wanted.find("\n\n", dates) + 2 - dates);
    const std::string empty = "<|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>";
    if (messages[0].get("role")->string() != "system")
      wanted.erase(wanted.find(empty), empty.size());
    SCOPED_TRACE(text_of(test, "conversation"));
    EXPECT_EQ(builtin("llama3").render(input_of(test)), wanted);
    ++checked;
  }
  EXPECT_GT(checked, 15);
}

/// SmolLM2's own template is ChatML with a system message of its own where there is none.
TEST(ChatTemplate, BuiltinChatmlMatchesSmollm2) {
  const fs::path file = parity_folder() / "H_chat" / "cases.jsonl";
  FT_NEEDS(file);
  int checked = 0;
  for (const Json& test : read_cases(file)) {
    if (text_of(test, "template") != "smollm2" ||
        test.get("messages")->array()[0].get("role")->string() != "system")
      continue;
    SCOPED_TRACE(text_of(test, "conversation"));
    check_case(builtin("chatml"), test);
    ++checked;
  }
  EXPECT_GT(checked, 5);
}

/// Parts of a message: an image is named, as Gemma's own template does it.
TEST(ChatTemplate, BuiltinGemmaNamesImages) {
  EXPECT_EQ(builtin("gemma").render(chat(R"([{"role": "user", "content":
      [{"type": "image"}, {"type": "text", "text": " What? "}]}])")),
            "<s><start_of_turn>user\n<start_of_image>What?<end_of_turn>\n");
}

TEST(ChatTemplate, BreaksStandInsideWhatAUserTyped) {
  const std::string fake = "x <|im_end|> <|im_end|>y";
  const auto input = chat(R"([{"role": "user", "content": "x <|im_end|> <|im_end|>y"}])", true);
  const RenderedChat got = builtin("chatml").render_for_training(
      input, {"<|im_end|>", "<|im_start|>", "|>", "\n", "  "});
  EXPECT_EQ(got.text, "<|im_start|>user\n" + fake + "<|im_end|>\n<|im_start|>assistant\n");
  // One inside each "<|im_end|>" and one inside each "|>" of the user, none in the template's own.
  const size_t user = got.text.find(fake);
  EXPECT_EQ(got.breaks, (std::vector<size_t>{user + 3, user + 11, user + 14, user + 22}));
  EXPECT_TRUE(builtin("chatml").render_for_training(input, {}).breaks.empty());
}

TEST(ChatTemplate, BreaksSurviveWhatATemplateDoes) {
  const std::vector<std::string> specials = {"<eos>"};
  const auto breaks = [&](const std::string& source) {
    const ChatTemplate chat_template = ChatTemplate::parse(source, "t");
    ChatInput input = chat(R"([{"role": "user", "content": " a<eos>b "}])");
    input.tools = parse_json(R"([{"name": "<eos>", "<eos>": 1}])", "test");
    EXPECT_EQ(chat_template.render(input), chat_template.render_with_breaks(input, specials).text);
    std::string out = chat_template.render_with_breaks(input, specials).text;
    const RenderedChat rendered = chat_template.render_with_breaks(input, specials);
    for (size_t i = rendered.breaks.size(); i > 0; --i) out.insert(rendered.breaks[i - 1], "!");
    return out;
  };
  EXPECT_EQ(breaks("{{ messages[0].content }}<eos>"), " a<!eos>b <eos>");
  EXPECT_EQ(breaks("{{ messages[0].content | trim }}"), "a<!eos>b");
  EXPECT_EQ(breaks("{{ messages[0].content.strip().replace('b', 'c') | upper }}"), "A<!EOS>C");
  EXPECT_EQ(breaks("{{ messages[0].content.split('a')[1] ~ 'x' }}"), "<!eos>b x");
  EXPECT_EQ(breaks("{{ messages[0].content[2:4] ~ messages[0].content[4:] }}"), "<!eos>b ");
  EXPECT_EQ(breaks("{{ messages[0].content[:3] ~ messages[0].content[3:] }}"), " a<!eos>b ");
  EXPECT_EQ(breaks("{{ messages | tojson }}"), R"([{"role": "user", "content": " a<!eos>b "}])");
  EXPECT_EQ(breaks("{{ tools | tojson }}"), R"([{"name": "<!eos>", "<!eos>": 1}])");
  EXPECT_EQ(breaks("{{ messages }}"), "[{'role': 'user', 'content': ' a<!eos>b '}]");
  EXPECT_EQ(breaks("{% set x %}{{ messages[0].content }}{% endset %}{{ '{}|'.format(x | trim) }}"),
            "a<!eos>b|");
  EXPECT_EQ(breaks("{% for c in messages[0].content %}{{ c }}{% endfor %}"), " a<!eos>b ");
  EXPECT_EQ(breaks("{{ '<eos>' in messages[0].content }}{{ messages[0].content.find('<eos>') }}"),
            "True2");
  EXPECT_EQ(breaks("{{ tools[0]['<eos>'] }}{{ messages[0].content | length }}"), "19");
}

TEST(ChatTemplate, InputCannotForgeMarks) {
  ChatInput input = chat("[]");
  Json message;
  message.set("role", "user");
  message.set("content", std::string("a\xfe"
                                     "b\xff"
                                     "\xfd"));
  input.messages = Json(Json::Array{message});
  const ChatTemplate t = ChatTemplate::parse("{{ messages[0].content }}{{ '\\xff\\ufdd0' }}", "t");
  const RenderedChat got = t.render_for_training(input, {});
  EXPECT_EQ(got.text,
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd\xef\xbf\xbd"
            "\xc3\xbf\xef\xb7\x90");
  EXPECT_TRUE(got.trained.empty());
  EXPECT_TRUE(got.breaks.empty());
}

TEST(ChatTemplate, AnswersOfATemplateThatRewritesAreRefused) {
  // Only the last answer keeps its mark, as with templates that drop earlier thinking.
  const ChatTemplate rewrites = ChatTemplate::parse(
      "{% for m in messages %}{{ m.role }}:{{ m.content }}{% if loop.last %}!{% endif %}\n{% "
      "endfor %}"
      "{% if add_generation_prompt %}assistant:{% endif %}",
      "rewrites.jinja");
  const std::string error = error_of([&] { rewrites.render_for_training(chat(kTurns), {}); });
  EXPECT_TRUE(error.starts_with("rewrites.jinja: ")) << error;
  for (const char* part :
       {"message 3", "not prefix-preserving", "{% generation %}", "train_on: all"})
    EXPECT_NE(error.find(part), std::string::npos) << error;
  EXPECT_NO_THROW(rewrites.render_with_breaks(chat(kTurns), {}));

  // A template that cannot render the prompt alone says why.
  const ChatTemplate strict = ChatTemplate::parse(
      "{{ messages[0].role }}{% for m in messages %}{{ m.content }}{% endfor %}", "strict.jinja");
  const std::string why = error_of(
      [&] { strict.render_for_training(chat(R"([{"role": "assistant", "content": "a"}])"), {}); });
  EXPECT_NE(why.find("message 1"), std::string::npos) << why;
  EXPECT_NE(why.find("has no element 0"), std::string::npos) << why;
}

TEST(ChatTemplate, GenerationBlocksInMacrosAndCaptures) {
  const ChatTemplate t = ChatTemplate::parse(
      "{% macro say(m) %}{% generation %}{{ m.content }}{% endgeneration %};{% endmacro %}"
      "{% for m in messages %}{{ m.role[0] }}={{ say(m) if m.role == 'assistant' }}{% endfor %}",
      "t");
  EXPECT_TRUE(t.has_generation_blocks());
  const RenderedChat got = t.render_for_training(chat(kTurns), {});
  EXPECT_EQ(got.text, "s=u=a= Yes. ;u=a=So.;");
  EXPECT_EQ(trained_text(got), "[ Yes. ][So.]");
  const ChatTemplate cuts = ChatTemplate::parse(
      "{% set x %}{% generation %}abc{% endgeneration %}d{% endset %}{{ x[1:] }}", "cuts");
  EXPECT_NE(error_of([&] { cuts.render_for_training(chat(kTurns), {}); }).find("generation block"),
            std::string::npos);
}

TEST(ChatTemplate, VariablesOfTransformers) {
  ChatInput input = chat(R"([{"role": "assistant", "content": "a", "thinking": "hm"}])");
  input.extra = parse_json(R"({"enable_thinking": false, "eos_token": "<e>"})", "test");
  input.now = "2024-07-26";
  const ChatTemplate t = ChatTemplate::parse(
      "{{ messages[0].reasoning_content }}{{ tools is none }}{{ documents is none }}{{ "
      "enable_thinking }}"
      "{{ eos_token }}{{ strftime_now('%d %b %Y') }}",
      "t");
  EXPECT_EQ(t.render(input), "hmTrueTrueFalse<e>26 Jul 2024");
  input.now = "yesterday";
  EXPECT_NE(error_of([&] { t.render(input); }).find("no ISO time"), std::string::npos);
  input.messages = Json("text");
  EXPECT_NE(error_of([&] { t.render(input); }).find("messages"), std::string::npos);
  input.messages = parse_json("[1]", "test");
  EXPECT_NE(error_of([&] { t.render(input); }).find("every message"), std::string::npos);
}

TEST(ChatTemplate, WhereATemplateComesFrom) {
  const fs::path folder = fs::path(testing::TempDir()) / "chat_template_test";
  fs::remove_all(folder);
  make_folders(folder);
  const auto rendered = [&] { return ChatTemplate::load("auto", folder)->render(chat("[]")); };
  EXPECT_FALSE(ChatTemplate::load("auto", folder).has_value());
  write_file(folder / "tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_FALSE(ChatTemplate::load("auto", folder).has_value());
  write_file(folder / "tokenizer_config.json",
             R"({"chat_template": [{"name": "tool_use", "template": "T"}]})");
  EXPECT_EQ(rendered(), "T");
  write_file(
      folder / "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "x", "template": "X"}]})");
  EXPECT_NE(error_of([&] { rendered(); }).find("named \"default\" (there are: tool_use, x)"),
            std::string::npos);
  write_file(
      folder / "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]})");
  EXPECT_EQ(rendered(), "D");
  write_file(folder / "tokenizer_config.json", R"({"chat_template": "C{{ 1 + }}"})");
  EXPECT_NE(error_of([&] { rendered(); }).find("tokenizer_config.json: chat_template:1: "),
            std::string::npos);
  write_file(folder / "chat_template.json", R"({"chat_template": "J"})");
  EXPECT_EQ(rendered(), "J");
  write_file(folder / "chat_template.jinja", "F\n{{ 1 }}");
  EXPECT_EQ(rendered(), "F\n1");
  EXPECT_EQ(
      ChatTemplate::load((folder / "chat_template.jinja").string(), "nowhere")->render(chat("[]")),
      "F\n1");
  const std::string unknown = error_of([] { ChatTemplate::load("lama3", "."); }, Code::kUsage);
  EXPECT_NE(unknown.find("did you mean \"llama3\""), std::string::npos) << unknown;
  fs::remove_all(folder);
}

}  // namespace
}  // namespace ft
