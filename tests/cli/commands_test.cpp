// eval, merge, inspect and help through the command line.
#include <cmath>

#include "cli/edit_model.h"
#include "cli/tiny_run.h"

namespace ft {
namespace {

using Keys = std::vector<std::string>;

TEST(EvalCommand, JsonAndFiles) {
  const TestFolder work;
  const std::string data = work.file("data.jsonl",
                                     R"({"input_ids": [5, 6, 7, 8]}
{"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}
{"input_ids": [9]}
{"input_ids": []}
{"input_ids": [9, 10], "labels": [-100, 10]}
)");
  for (const char* packing : {"true", "false"}) {
    const Json json = run_ok({"eval", "--model", tiny_model().string(), "--data", data, "--json",
                              "--per-example", (work / "examples.jsonl").string(),
                              "--token-logprobs", (work / "logprobs.jsonl").string(), "--set",
                              "dtype=float32", "--set", str("data.packing=", packing)})
                          .json();
    EXPECT_EQ(json.get("target_tokens")->integer(), 4);
    const double loss = json.get("loss")->number();
    EXPECT_NEAR(json.get("perplexity")->number(), std::exp(loss), 1e-9 * std::exp(loss));
    const auto examples = read_json_lines(work / "examples.jsonl"),
               logprobs = read_json_lines(work / "logprobs.jsonl");
    ASSERT_EQ(examples.size(), 5u);
    ASSERT_EQ(logprobs.size(), 5u);
    const std::vector<size_t> targets = {3, 0, 0, 0, 1};
    double sum = 0;
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(keys_of(examples[i]), (Keys{"index", "loss", "target_tokens"}));
      EXPECT_EQ(examples[i].get("index")->integer(), static_cast<int64_t>(i));
      EXPECT_EQ(examples[i].get("target_tokens")->integer(), static_cast<int64_t>(targets[i]));
      EXPECT_EQ(examples[i].get("loss")->is_null(), targets[i] == 0);
      EXPECT_EQ(logprobs[i].get("logprobs")->array().size(), targets[i]);
      for (const Json& p : logprobs[i].get("logprobs")->array()) sum -= p.number();
    }
    EXPECT_NEAR(sum / 4, loss, 1e-6);
  }
}

TEST(EvalCommand, TakesModelDataAndFormatFromATrainingConfig) {
  const TestFolder work;
  TinyRun run(work);
  const auto metrics = run.with_eval().set("eval.samples", "0").train();
  const Json json = run_ok({"eval", "--config", (run.out() / "config.yaml").string(), "--adapter",
                            (run.out() / "final").string(), "--json"})
                        .json();
  EXPECT_NEAR(json.get("loss")->number(), metrics.back().get("final_eval_loss")->number(), 1e-6);
}

TEST(EvalCommand, ALossThatIsNoNumberIsNullInJson) {
  const TestFolder work;
  const fs::path model = copy_model(work);
  edit_tensors(model / "model.safetensors",
               [](TensorMap& all) { all.at("model.norm.weight").fill_(std::nan("")); });
  const Json json = run_ok({"eval", "--model", model.string(), "--data",
                            work.file("data.jsonl", conversations(3)), "--json", "--per-example",
                            (work / "examples.jsonl").string(), "--token-logprobs",
                            (work / "logprobs.jsonl").string()})
                        .json();
  EXPECT_TRUE(json.get("loss")->is_null());
  EXPECT_TRUE(json.get("perplexity")->is_null());
  for (const Json& line : read_json_lines(work / "examples.jsonl"))
    EXPECT_TRUE(line.get("loss")->is_null());
  for (const Json& line : read_json_lines(work / "logprobs.jsonl"))
    for (const Json& p : line.get("logprobs")->array()) EXPECT_TRUE(p.is_null());
}

TEST(EvalCommand, TextResult) {
  const TestFolder work;
  const Outcome outcome = run_ok({"eval", "--model", tiny_model().string(), "--data",
                                  work.file("data.jsonl", conversations(3))});
  EXPECT_NE(outcome.out.find("perplexity"), std::string::npos) << outcome.out;
}

TEST(MergeCommand, MergedModelEqualsTheAdapter) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "0").set("train.epochs", "3").train();
  const std::string adapter = (run.out() / "final").string(), merged = (work / "merged").string(),
                    data = (work / "eval.jsonl").string();
  run_ok({"merge", "--model", tiny_model().string(), "--adapter", adapter, "--output", merged});
  const Keys shared = {"--data", data, "--json", "--set", "dtype=float32"};
  Keys with = {"eval", "--model", tiny_model().string(), "--adapter", adapter},
       without = {"eval", "--model", merged}, base = {"eval", "--model", tiny_model().string()};
  for (Keys* args : {&with, &without, &base})
    args->insert(args->end(), shared.begin(), shared.end());
  const double adapted = run_ok(with).json().get("loss")->number();
  EXPECT_NEAR(run_ok(without).json().get("loss")->number(), adapted, 1e-5);
  EXPECT_GT(run_ok(base).json().get("loss")->number(), adapted + 0.1);
  for (const char* file : {"config.json", "tokenizer.json", "tokenizer_config.json",
                           "chat_template.jinja", "generation_config.json"})
    EXPECT_TRUE(fs::exists(fs::path(merged) / file)) << file;
}

TEST(MergeCommand, ReplacesNothing) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "1").train();
  work.file("taken/notes.txt", "mine");
  const Outcome outcome =
      run_finetune({"merge", "--model", tiny_model().string(), "--adapter",
                    (run.out() / "final").string(), "--output", (work / "taken").string()});
  EXPECT_EQ(outcome.status, 5);
  EXPECT_EQ(files_below(work / "taken"), Keys{"notes.txt"});
}

TEST(InspectCommand, JsonParses) {
  const TestFolder work;
  TinyRun run(work);
  Keys args = run.with_eval().args({"--json"});
  args[0] = "inspect";
  const Json json = run_ok(args).json();
  EXPECT_EQ(keys_of(json), (Keys{"format", "windows", "counts", "eval_counts", "documents",
                                 "packing", "lengths"}));
  EXPECT_EQ(json.get("format")->string(), "messages");
  EXPECT_EQ(json.get("documents")->array().size(), 3u);
  EXPECT_FALSE(fs::exists(run.out()));
  const std::string text = run_ok({args.begin(), args.end()}).out;
  EXPECT_FALSE(text.empty());
}

TEST(InspectCommand, NeedsNoWeights) {
  const TestFolder work;
  const fs::path model = copy_model(work);
  fs::remove(model / "model.safetensors");
  const Outcome outcome =
      run_ok({"inspect", "--model", model.string(), "--set",
              "data.train=" + work.file("train.jsonl", conversations(4)), "--n", "1"});
  EXPECT_NE(outcome.out.find("What is"), std::string::npos) << outcome.out;
}

TEST(HelpCommand, ListsEveryKey) {
  const std::string text = run_ok({"help", "config"}).out;
  for (const char* key : {"lora.target_modules", "train.master_weights", "eval.samples",
                          "quantization.block_size", "data.overflow", "log.tensorboard"})
    EXPECT_NE(text.find(key), std::string::npos) << key;
}

TEST(HelpCommand, EveryCommandHasHelp) {
  for (const char* command :
       {"train", "eval", "generate", "merge", "inspect", "tokenize", "convert", "help"}) {
    const Outcome outcome = Program({command, "--help"}).wait();
    EXPECT_EQ(outcome.status, 0) << command;
    EXPECT_FALSE(outcome.out.empty()) << command;
  }
  EXPECT_EQ(run_finetune({"--version"}).status, 0);
  EXPECT_EQ(run_finetune({"--help"}).status, 0);
}

}  // namespace
}  // namespace ft
