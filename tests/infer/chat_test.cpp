// A conversation answers each turn as `generate` answers the messages so far.
#include "base/error.h"
#include "base/files.h"
#include "finetune/run.h"
#include "fixtures.h"

namespace ft {
namespace {

GenerateOptions options() {
  GenerateOptions o;
  o.config.model = tiny_model().string();
  o.config.dtype = "float32";
  o.config.device = "cpu";
  o.sampling.max_new_tokens = 12;
  return o;
}

/// What chat() writes for the turns.
std::string answers(const GenerateOptions& o, std::vector<std::string> turns) {
  std::string written;
  size_t next = 0;
  chat(
      o,
      [&]() -> std::optional<std::string> {
        if (next == turns.size()) return std::nullopt;
        return turns[next++];
      },
      [&](const std::string& text) { written += text; });
  return written;
}

TEST(Chat, EachTurnSeesTheOnesBefore) {
  const GenerateOptions o = options();
  Json::Array messages = {Json::Object{{"role", "system"}, {"content", "Be brief."}}};
  const fs::path file = fs::path(testing::TempDir()) / "chat_prompts.jsonl";
  std::string expected;
  for (const char* turn : {"Who keeps the light?", "And the caf\u00e9?"}) {
    messages.push_back(Json::Object{{"role", "user"}, {"content", turn}});
    write_file(file, Json(Json::Object{{"messages", messages}}).dump() + "\n");
    GenerateOptions once = o;
    once.prompts_file = file.string();
    const std::string answer = generate(once).completions.at(0).text;
    messages.push_back(Json::Object{{"role", "assistant"}, {"content", answer}});
    expected += answer + "\n";
  }
  fs::remove(file);
  GenerateOptions with_system = o;
  with_system.system = "Be brief.";
  with_system.sampling.n = 3;  // a chat has one answer
  EXPECT_EQ(answers(with_system, {"Who keeps the light?", "", "And the caf\u00e9?"}), expected);
  EXPECT_EQ(answers(with_system, {}), "");
}

TEST(Chat, RawGoesOnWithTheTextAsItIs) {
  GenerateOptions o = options();
  o.raw = true;
  const auto go_on = [&](const std::string& text) {
    GenerateOptions once = o;
    once.prompts = {text};
    return generate(once).completions.at(0).text;
  };
  const std::string first = go_on("the cat"),
                    second = go_on("the cat" + first + " and\xef\xbf\xbd");
  EXPECT_EQ(answers(o, {"the cat", " and\xff"}), first + "\n" + second + "\n");
}

TEST(Chat, TakesOneAdapter) {
  GenerateOptions o = options();
  o.adapters = {{"a", "x"}, {"b", "y"}};
  EXPECT_THROW(answers(o, {"hi"}), Error);
}

}  // namespace
}  // namespace ft
