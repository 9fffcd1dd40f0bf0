// Adapters as files, through the command line: DoRA, starts and LoRA+ in training, several adapters
// in one generate, weighted merges, summaries.
#include <cstring>

#include "base/safetensors.h"
#include "cli/edit_model.h"
#include "cli/tiny_run.h"

namespace ft {
namespace {

using Keys = std::vector<std::string>;

struct Method {
  const char* name;
  Keys settings;
};
void PrintTo(const Method& m, std::ostream* out) {
  *out << m.name;
}
class AdapterMethods : public testing::TestWithParam<Method> {};

double eval_loss(const TestFolder& work, const fs::path& model, const Keys& more = {}) {
  Keys args = {"eval",  "--model",       model.string(), "--data", (work / "eval.jsonl").string(),
               "--set", "dtype=float32", "--json"};
  args.insert(args.end(), more.begin(), more.end());
  return run_ok(args).json().get("loss")->number();
}

TEST_P(AdapterMethods, LearnAndTheirFilesHoldWhatWasLearned) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "0").set("eval.evaluations", "0").set("train.epochs", "4");
  run.set("lora.dropout", "0.1").set("lora.r", "4").set("train.learning_rate", "3e-3");
  for (const std::string& pair : GetParam().settings)
    run.set(pair.substr(0, pair.find('=')), pair.substr(pair.find('=') + 1));
  const auto evaluations = numbers(lines_of(run.train(), "eval"), "loss");
  ASSERT_EQ(evaluations.size(), 2u);
  EXPECT_LT(evaluations[1], 0.95 * evaluations[0]);
  const std::string final = (run.out() / "final").string();
  EXPECT_NEAR(eval_loss(work, tiny_model(), {"--adapter", final}), evaluations[1], 1e-5);
  run_ok({"merge", "--model", tiny_model().string(), "--adapter", final, "--output",
          (work / "merged").string()});
  EXPECT_NEAR(eval_loss(work, work / "merged"), evaluations[1], 1e-4);
  // Trained on by a step that changes nothing, the adapter stays the same.
  run.output("on").set("lora.resume_from", final).set("train.max_steps", "1");
  run.set("train.learning_rate", "1e-30");
  const Keys own = {"lora.r", "lora.dropout", "lora.init", "lora.use_dora", "lora.use_rslora"};
  Keys args;
  for (const std::string& arg : run.args()) {
    const bool is_own = std::ranges::any_of(
        own, [&](const std::string& key) { return arg.starts_with(key + "="); });
    if (is_own) {
      args.pop_back();  // its --set
    } else {
      args.push_back(arg);
    }
  }
  run_ok(args);
  EXPECT_NEAR(eval_loss(work, tiny_model(), {"--adapter", (work / "on/final").string()}),
              evaluations[1], 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    All, AdapterMethods,
    testing::Values(Method{"gaussian", {"lora.init=gaussian"}},
                    Method{"dora", {"lora.use_dora=true"}},
                    Method{"dora_rslora", {"lora.use_dora=true", "lora.use_rslora=true"}},
                    Method{
                        "dora_bias_head",
                        {"lora.use_dora=true", "lora.bias=all", "lora.modules_to_save=[lm_head]"}},
                    Method{"pissa", {"lora.init=pissa", "train.learning_rate=1e-3"}},
                    Method{"pissa_dora", {"lora.init=pissa", "lora.use_dora=true"}},
                    Method{"olora", {"lora.init=olora", "train.learning_rate=3e-4"}},
                    Method{"plus", {"lora.plus_ratio=8", "train.learning_rate=1e-3"}}),
    [](const auto& method) { return std::string(method.param.name); });

/// Embedding and head of a tied model, trained as the one tensor they are: PEFT's file has both.
TEST(AdapterEnds, StayTied) {
  const TestFolder work;
  const fs::path model = copy_model(work);
  edit_json(model / "config.json", [](Json& config) { config.set("tie_word_embeddings", true); });
  edit_tensors(model / "model.safetensors", [](TensorMap& t) { t.erase("lm_head.weight"); });
  for (const char* end : {"[lm_head]", "[embed_tokens]", "[embed_tokens, lm_head]"}) {
    SCOPED_TRACE(end);
    TinyRun run(work);
    run.output(str("out", end)).with_eval().set("eval.samples", "0").set("eval.evaluations", "0");
    run.set("model", model.string()).set("lora.modules_to_save", end);
    run.set("lora.ensure_weight_tying", "true");
    const auto evaluations = numbers(lines_of(run.train(), "eval"), "loss");
    ASSERT_EQ(evaluations.size(), 2u);
    EXPECT_LT(evaluations[1], evaluations[0]);
    const fs::path final = run.out() / "final";
    const TensorMap saved = read_tensors(final / "adapter_model.safetensors");
    const std::string prefix = "base_model.model.";
    ASSERT_TRUE(saved.contains(prefix + "lm_head.weight"));
    EXPECT_TRUE(
        saved.at(prefix + "lm_head.weight").equal(saved.at(prefix + "model.embed_tokens.weight")));
    EXPECT_NEAR(eval_loss(work, model, {"--adapter", final.string()}), evaluations[1], 1e-5);
    const fs::path merged = work / str("merged", end);
    run_ok({"merge", "--model", model.string(), "--adapter", final.string(), "--output",
            merged.string()});
    EXPECT_FALSE(read_tensors(merged / "model.safetensors").contains("lm_head.weight"));
    EXPECT_NEAR(eval_loss(work, merged), evaluations[1], 1e-4);
  }
}

TEST(AdapterRates, PlusRatioMultipliesTheRateOfB) {
  // The first AdamW step moves each element by the rate, whatever its gradient.
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "1").set("train.learning_rate", "1e-3").set("train.eps", "1e-30");
  const auto largest_b = [&](const char* name, const char* ratio) {
    run.output(name).set("lora.plus_ratio", ratio).train();
    const fs::path file = run.out() / "final/adapter_model.safetensors";
    double most = 0;
    for (const StoredTensor& t : read_safetensors(file))
      if (t.name.ends_with("lora_B.weight"))
        for (size_t i = 0; i + 4 <= t.bytes.size(); i += 4) {
          float v;
          std::memcpy(&v, t.bytes.data() + i, 4);
          most = std::max(most, std::abs(static_cast<double>(v)));
        }
    return most;
  };
  EXPECT_NEAR(largest_b("one", "null"), 1e-3, 1e-6);
  EXPECT_NEAR(largest_b("four", "4"), 4e-3, 4e-6);
}

/// Two adapters that say different things: a DoRA, and a LoRA that trains the head too.
class TwoAdapters : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b", "head"}) {
      TinyRun run(work);
      run.output(name).set("train.epochs", "6").set("lora.r", "4");
      run.set("train.learning_rate", "5e-3").set("seed", name == std::string("a") ? "1" : "2");
      if (name == std::string("a")) run.set("lora.use_dora", "true");
      if (name == std::string("b")) run.set("lora.target_modules", "[q_proj, up_proj]");
      if (name == std::string("head")) run.set("lora.modules_to_save", "[lm_head]");
      run.train();
    }
  }
  std::string adapter(const std::string& name) const { return (work / name / "final").string(); }
  Keys with(const Keys& names) const {
    Keys args;
    for (const std::string& name : names) {
      args.push_back("--adapter");
      args.push_back(name + "=" + adapter(name));
    }
    return args;
  }
  Json::Array completions(const Keys& more) const {
    Keys args = {"generate", "--model", tiny_model().string(), "--max-new-tokens",
                 "10",       "--set",   "dtype=float32",       "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return run_ok(args).json().get("completions")->array();
  }

  TestFolder work;
};

TEST_F(TwoAdapters, EachPromptTakesItsOwn) {
  const Keys lines = {R"({"prompt": "What is 5?"})",
                      R"({"prompt": "What is 5?", "adapter": "b"})",
                      R"({"prompt": "What is 5?", "adapter": null})",
                      R"({"prompt": "Tell me of 7", "adapter": "head"})",
                      R"({"prompt": "Tell me of 7", "adapter": "none"})",
                      R"({"prompt": "Tell me of 7", "adapter": "a"})"};
  const Keys alone = {"a", "b", "", "head", "", "a"};
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  Keys args = with({"a", "b", "head"});
  for (const char* arg : {"--n", "2", "--temperature", "0"}) args.push_back(arg);
  args.push_back("--prompts");
  args.push_back(work.file("prompts.jsonl", all));
  const auto together = completions(args);
  ASSERT_EQ(together.size(), 2 * lines.size());
  std::set<std::string> different;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string prompt = i < 3 ? "What is 5?" : "Tell me of 7";
    Keys single = {"--prompt", prompt};
    if (!alone[i].empty()) single.insert(single.end(), {"--adapter", adapter(alone[i])});
    const Json one = completions(single)[0];
    for (size_t n = 0; n < 2; ++n) {
      EXPECT_EQ(*together[2 * i + n].get("token_ids"), *one.get("token_ids")) << lines[i];
      EXPECT_EQ(*together[2 * i + n].get("prompt"), Json(prompt));
    }
    different.insert(one.dump());
  }
  EXPECT_GE(different.size(), 5u);
}

TEST_F(TwoAdapters, NamesAreChecked) {
  const auto refused = [&](const Keys& more, int status) {
    Keys args = {"generate", "--model", tiny_model().string()};
    args.insert(args.end(), more.begin(), more.end());
    const Outcome outcome = run_finetune(args);
    EXPECT_EQ(outcome.status, status) << outcome.err;
    return outcome.err;
  };
  const std::string file = work.file("p.jsonl", R"({"prompt": "x", "adapter": "bb"})");
  EXPECT_NE(refused({"--adapter", "b=" + adapter("b"), "--prompts", file}, 3)
                .find("p.jsonl:1: adapter: bb: no such adapter"),
            std::string::npos);
  EXPECT_NE(refused({"--prompts", file}, 3).find("NAME=DIR"), std::string::npos);
  EXPECT_NE(
      refused({"--adapter", "b=" + adapter("b"), "--adapter", "b=" + adapter("a"), "--prompt", "x"},
              2)
          .find("there twice"),
      std::string::npos);
  EXPECT_NE(refused({"--adapter", "none=" + adapter("b"), "--prompt", "x"}, 2).find("none"),
            std::string::npos);
}

TEST_F(TwoAdapters, MergeWithWeights) {
  const auto merge = [&](const std::string& name, const Keys& more) {
    Keys args = {"merge", "--model", tiny_model().string(), "--output", (work / name).string()};
    args.insert(args.end(), more.begin(), more.end());
    return run_finetune(args);
  };
  const Keys both = {"--adapter", adapter("a"), "--adapter", adapter("head")};
  Keys weighted = both;
  weighted.insert(weighted.end(), {"--weights", "0,1"});
  ASSERT_EQ(merge("weighted", weighted).status, 0);
  ASSERT_EQ(merge("alone", {"--adapter", adapter("head")}).status, 0);
  ASSERT_EQ(merge("both", both).status, 0);
  const double alone = eval_loss(work, work / "alone");
  EXPECT_NEAR(eval_loss(work, work / "weighted"), alone, 1e-5);
  EXPECT_GT(std::abs(eval_loss(work, work / "both") - alone), 1e-3);
  weighted.back() = "0.5";
  const Outcome refused = merge("refused", weighted);
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("--weights: 1 for 2 adapters"), std::string::npos) << refused.err;
}

TEST_F(TwoAdapters, Summary) {
  const Json file = run_ok({"inspect", "--adapter", adapter("b"), "--json"}).json(),
             onto = run_ok({"inspect", "--adapter", adapter("a"), "--model", tiny_model().string(),
                            "--json"})
                        .json();
  EXPECT_EQ(file.get("type")->string(), "lora");
  EXPECT_EQ(onto.get("type")->string(), "dora");
  EXPECT_EQ(file.get("rank")->integer(), 4);
  EXPECT_EQ(file.get("targets")->array(), (Json::Array{"q_proj", "up_proj"}));
  EXPECT_EQ(file.get("layers")->array().size(), 4u);
  EXPECT_EQ(onto.get("layers")->array().size(), 14u);
  for (const Json* summary : {&file, &onto}) {
    int64_t sum = 0;
    for (const Json& layer : summary->get("layers")->array()) {
      sum += layer.get("parameters")->integer();
      EXPECT_GT(layer.get("norm_b")->number(), 0);
      EXPECT_EQ(layer.get("norm_change") != nullptr, summary == &onto);
      if (summary == &onto) {
        EXPECT_GT(layer.get("norm_change")->number(), 0);
        EXPECT_LT(layer.get("norm_change")->number(), layer.get("norm_base")->number());
      }
    }
    EXPECT_EQ(sum, summary->get("parameters")->integer());
  }
  const std::string text =
      run_ok({"inspect", "--adapter", adapter("head"), "--model", tiny_model().string()}).out;
  for (const char* part : {"rank 4", "lm_head", "layers.1.mlp.down_proj", " %  "})
    EXPECT_NE(text.find(part), std::string::npos) << part << text;
  EXPECT_EQ(run_finetune({"inspect", "--adapter", (work / "nowhere").string()}).status, 3);
}

}  // namespace
}  // namespace ft
