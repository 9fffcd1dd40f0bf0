// `finetune generate` through the command line.
#include "cli/tiny_run.h"

namespace ft {
namespace {

using Keys = std::vector<std::string>;

Keys generate_args(const Keys& more) {
  Keys args = {"generate", "--model", tiny_model().string(), "--max-new-tokens",
               "12",       "--set",   "dtype=float32"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

Json::Array completions(const Keys& more) {
  Keys args = generate_args(more);
  args.push_back("--json");
  const Json json = run_ok(args).json();
  EXPECT_EQ(keys_of(json), (Keys{"completions", "tokens_per_second"}));
  EXPECT_GT(json.get("tokens_per_second")->number(), 0);
  return json.get("completions")->array();
}

std::string text_of(const Json& completion) {
  return completion.get("text")->string();
}

TEST(GenerateCommand, JsonHasTheShapeOfTheInterface) {
  const auto all = completions({"--prompt", "What is 1?", "--prompt", "And 2?"});
  ASSERT_EQ(all.size(), 2u);
  for (const Json& c : all) {
    EXPECT_EQ(keys_of(c), (Keys{"prompt", "text", "token_ids", "finish_reason"}));
    EXPECT_LE(c.get("token_ids")->array().size(), 12u);
    const std::string reason = c.get("finish_reason")->string();
    EXPECT_TRUE(reason == "length" || reason == "stop") << reason;
  }
  EXPECT_EQ(all[0].get("prompt")->string(), "What is 1?");
  EXPECT_EQ(all[1].get("prompt")->string(), "And 2?");
}

TEST(GenerateCommand, TextGoesToStdoutAlone) {
  const std::string text = text_of(completions({"--prompt", "Hello", "--raw"})[0]);
  EXPECT_EQ(run_ok(generate_args({"--prompt", "Hello", "--raw"})).out, text + "\n");
}

TEST(GenerateCommand, PromptsOfAFile) {
  const TestFolder work;
  const std::string file = work.file("prompts.jsonl",
                                     R"({"prompt": "One"}
{"messages": [{"role": "user", "content": "One"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}
{"input_ids": [5, 6, 7]}
)");
  const auto all = completions({"--prompts", file});
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(text_of(all[0]), text_of(all[1]));
  EXPECT_EQ(*all[0].get("token_ids"), *all[1].get("token_ids"));
}

TEST(GenerateCommand, ATemplateThatRewritesEarlierTurnsWillDo) {
  const TestFolder work;
  const std::string file = work.file(
      "template.jinja", "{% for m in messages %}{{ loop.revindex }}{{ m.content }}\n{% endfor %}");
  const std::string prompts =
      work.file("prompts.jsonl", R"({"messages": [{"role": "user", "content": "a"},
 {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]})");
  std::string one_line = read_file(prompts);
  one_line.erase(one_line.find('\n'), 1);
  write_file(prompts, one_line);
  EXPECT_EQ(completions({"--prompts", prompts, "--set", "data.chat_template=" + file}).size(), 1u);
}

TEST(GenerateCommand, SamplesFollowTheSeed) {
  const Keys sampled = {"--prompt", "Hi", "--temperature", "1.5", "--n", "3", "--seed"};
  const auto with_seed = [&](const char* seed) {
    Keys args = sampled;
    args.push_back(seed);
    Keys texts;
    for (const Json& c : completions(args)) texts.push_back(c.get("token_ids")->dump());
    return texts;
  };
  const Keys first = with_seed("1");
  ASSERT_EQ(first.size(), 3u);
  EXPECT_NE(first[0], first[1]);
  EXPECT_EQ(with_seed("1"), first);
  EXPECT_NE(with_seed("2"), first);
}

TEST(GenerateCommand, StopTextAndPenalty) {
  const std::string text = text_of(completions({"--prompt", "the cat", "--raw"})[0]);
  const auto printable_at =
      std::find_if(text.begin() + 2, text.end(), [](char c) { return c > ' ' && c < 127; });
  ASSERT_NE(printable_at, text.end());
  const std::string stop(1, *printable_at);
  const auto cut = completions({"--prompt", "the cat", "--raw", "--stop", stop});
  EXPECT_EQ(text_of(cut[0]), text.substr(0, text.find(stop)));
  const auto penalised =
      completions({"--prompt", "the cat", "--raw", "--repetition-penalty", "100"});
  Json::Array ids = penalised[0].get("token_ids")->array();
  for (size_t i = 0; i < ids.size(); ++i)
    for (size_t j = i + 1; j < ids.size(); ++j) EXPECT_NE(ids[i].integer(), ids[j].integer());
}

TEST(GenerateCommand, SystemMessageAndAdapterChangeTheAnswer) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.epochs", "4").set("train.learning_rate", "1e-2").train();
  const auto plain = completions({"--prompt", "What is 3 and 2?"})[0];
  const auto system = completions({"--prompt", "What is 3 and 2?", "--system", "Be brief."})[0];
  const auto adapted =
      completions({"--prompt", "What is 3 and 2?", "--adapter", (run.out() / "final").string()})[0];
  EXPECT_NE(plain.get("token_ids")->dump(), system.get("token_ids")->dump());
  EXPECT_NE(plain.get("token_ids")->dump(), adapted.get("token_ids")->dump());
}

}  // namespace
}  // namespace ft
