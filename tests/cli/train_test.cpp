// `finetune train` on the tiny model: what it leaves behind, and that a run can be repeated,
// stopped, resumed and replaced.
#include <set>

#include "cli/tiny_run.h"

namespace ft {
namespace {

bool is_there(const fs::path& file) {
  return fs::exists(file);
}

TEST(Train, LeavesTheFilesOfTheInterface) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.evaluations", "2").set("eval.samples", "3");
  run.set("eval.sample_max_new_tokens", "8").set("save.every_steps", "1").set("save.keep", "2");
  run.set("data.max_length", "64").set("train.epochs", "2");
  const auto metrics = run.train();
  const fs::path out = run.out();
  for (const char* file :
       {"config.yaml", "metrics.jsonl", "samples.jsonl", "final/adapter_config.json",
        "final/adapter_model.safetensors", "final/tokenizer.json", "final/tokenizer_config.json",
        "final/chat_template.jinja", "best/adapter_config.json", "best/adapter_model.safetensors"})
    EXPECT_PRED1(is_there, out / file);
  std::set<std::string> checkpoints;
  for (const auto& entry : fs::directory_iterator(out / "checkpoints"))
    checkpoints.insert(entry.path().filename().string());
  const auto steps = lines_of(metrics, "train").size();
  EXPECT_EQ(checkpoints, (std::set<std::string>{str("step-", steps - 1), str("step-", steps)}));
  for (const std::string& file : files_below(out))
    EXPECT_EQ(file.find("staging"), std::string::npos) << file;
  const auto samples = read_json_lines(out / "samples.jsonl");
  ASSERT_EQ(samples.size(), 3u);
  for (const Json& s : samples) {
    EXPECT_EQ(keys_of(s), (std::vector<std::string>{"prompt", "reference", "generated"}));
    EXPECT_FALSE(s.get("reference")->string().empty());
  }
}

TEST(Train, MetricsHaveTheFieldsOfTheInterface) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.evaluations", "2").set("eval.samples", "0").set("train.epochs", "2");
  const auto metrics = run.train();
  using Keys = std::vector<std::string>;
  const auto train = lines_of(metrics, "train"), eval = lines_of(metrics, "eval");
  ASSERT_GE(train.size(), 4u);
  EXPECT_EQ(eval.size(), 4u);  // before, two in between, after
  int64_t tokens = 0, step = 0;
  for (const Json& line : train) {
    EXPECT_EQ(keys_of(line),
              (Keys{"type", "step", "epoch", "loss", "grad_norm", "learning_rate", "tokens",
                    "target_tokens", "tokens_per_second", "step_seconds", "memory_bytes"}));
    EXPECT_EQ(line.get("step")->integer(), ++step);
    EXPECT_GT(line.get("tokens")->integer(), tokens);
    tokens = line.get("tokens")->integer();
    EXPECT_GT(line.get("target_tokens")->integer(), 0);
    EXPECT_GT(line.get("memory_bytes")->integer(), 1 << 20);
  }
  EXPECT_EQ(train.back().get("epoch")->number(), 2);
  for (const Json& line : eval) {
    EXPECT_EQ(keys_of(line),
              (Keys{"type", "step", "epoch", "loss", "perplexity", "target_tokens", "seconds"}));
    EXPECT_NEAR(line.get("perplexity")->number() / std::exp(line.get("loss")->number()), 1, 1e-9);
  }
  EXPECT_EQ(eval.front().get("step")->integer(), 0);
  EXPECT_EQ(eval.back().get("step")->integer(), step);
  const Json& summary = metrics.back();
  EXPECT_EQ(keys_of(summary), (Keys{"type", "steps", "tokens", "seconds", "tokens_per_second",
                                    "peak_memory_bytes", "best_eval_loss", "final_eval_loss"}));
  EXPECT_EQ(summary.get("type")->string(), "summary");
  EXPECT_EQ(summary.get("steps")->integer(), step);
  EXPECT_EQ(summary.get("tokens")->integer(), tokens);
  EXPECT_EQ(summary.get("final_eval_loss")->number(), eval.back().get("loss")->number());
  const auto losses = numbers({eval.begin() + 1, eval.end()}, "loss");
  EXPECT_EQ(summary.get("best_eval_loss")->number(),
            *std::min_element(losses.begin(), losses.end()));
  EXPECT_LT(losses.back(), eval.front().get("loss")->number());
}

TEST(Train, ConfigYamlRepeatsTheRun) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "0").set("lora.dropout", "0.1").set("train.epochs", "2");
  run.set("train.lr_scheduler", "cosine").set("train.warmup_steps", "0.1");
  const auto first = run.train();
  run_ok({"train", "--config", (run.out() / "config.yaml").string(), "--set",
          "output_dir=" + (work / "again").string()});
  EXPECT_EQ(repeatable(read_json_lines(work / "again/metrics.jsonl")), repeatable(first));
  const char* weights = "final/adapter_model.safetensors";
  EXPECT_EQ(read_file(work / "again" / weights), read_file(run.out() / weights));
}

struct Stop {
  const char* name;
  int signal, status;
  std::vector<std::pair<std::string, std::string>> settings;
};
void PrintTo(const Stop& s, std::ostream* out) {
  *out << s.name;
}
class TrainResume : public testing::TestWithParam<Stop> {};

TEST_P(TrainResume, GivesTheBitsOfAnUninterruptedRun) {
  const Stop& stop = GetParam();
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "0").set("eval.every_steps", "40");
  run.set("data.packing", "false").set("train.epochs", "10").set("lora.dropout", "0.05");
  run.set("train.lr_scheduler", "linear");
  for (const auto& [key, value] : stop.settings) run.set(key, value);
  if (stop.settings.size() > 1) run.set("lora.dropout", "0");
  const auto whole = run.output("whole").train();
  run.output("stopped");
  const Outcome first = interrupt(run.args(), run.out() / "metrics.jsonl", 60, stop.signal);
  ASSERT_EQ(first.status, stop.status) << first.err;
  EXPECT_FALSE(fs::exists(run.out() / "final"));
  const auto resumed = run.train({"--resume"});
  EXPECT_EQ(repeatable(resumed), repeatable(whole));
  for (const char* folder : {"final", "best"})
    for (const std::string& file : files_below(work / "whole" / folder))
      EXPECT_EQ(read_file(work / "whole" / folder / file),
                read_file(work / "stopped" / folder / file))
          << file;
  // Nothing left to do.
  const Outcome again = run_ok(run.args({"--resume"}));
  EXPECT_NE(again.err.find("nothing left to do"), std::string::npos) << again.err;
}

INSTANTIATE_TEST_SUITE_P(
    Signals, TrainResume,
    testing::Values(
        Stop{"sigterm_lora", SIGTERM, 143, {}}, Stop{"sigint_lora", SIGINT, 130, {}},
        Stop{"sighup_lora", SIGHUP, 129, {}}, Stop{"sigkill_lora", SIGKILL, 1009, {}},
        Stop{"sigterm_full_kahan", SIGTERM, 143, {{"method", "full"}, {"dtype", "bfloat16"}}},
        Stop{"sigterm_full_stochastic",
             SIGTERM,
             143,
             {{"method", "full"}, {"dtype", "bfloat16"}, {"train.master_weights", "stochastic"}}},
        Stop{"sigkill_full_float32_master",
             SIGKILL,
             1009,
             {{"method", "full"}, {"dtype", "bfloat16"}, {"train.master_weights", "float32"}}},
        Stop{"sigkill_full_adamw8bit",
             SIGKILL,
             1009,
             {{"method", "full"}, {"dtype", "bfloat16"}, {"train.optimizer", "adamw8bit"}}},
        Stop{"sigterm_lora_paged_adamw",
             SIGTERM,
             143,
             {{"train.optimizer", "paged_adamw"}, {"lora.r", "64"}}},
        Stop{"sigterm_full_paged_adamw8bit_fused",
             SIGTERM,
             143,
             {{"method", "full"},
              {"dtype", "bfloat16"},
              {"train.optimizer", "paged_adamw8bit"},
              {"train.master_weights", "stochastic"},
              {"train.fused_update", "true"},
              {"train.max_grad_norm", "0"}}},
        Stop{"sigterm_dora", SIGTERM, 143, {{"lora.use_dora", "true"}}},
        Stop{"sigkill_pissa", SIGKILL, 1009, {{"lora.init", "pissa"}}},
        Stop{"sigterm_olora", SIGTERM, 143, {{"lora.init", "olora"}}},
        Stop{"sigterm_between_evaluations", SIGTERM, 143, {{"eval.every_steps", "1"}}}),
    [](const auto& stop) { return std::string(stop.param.name); });

TEST(Train, Usr1SavesAndTheRunGoesOn) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "0").set("train.epochs", "10").set("data.packing", "false");
  run.set("save.every_steps", "1000000");
  const auto whole = run.output("whole").train();
  const auto checkpoints = [&] {
    const auto saved = fs::directory_iterator(run.out() / "checkpoints");
    return std::distance(begin(saved), end(saved));
  };
  EXPECT_EQ(checkpoints(), 1);  // that of the last step
  run.output("asked");
  const Outcome asked = interrupt(run.args(), run.out() / "metrics.jsonl", 30, SIGUSR1);
  EXPECT_EQ(asked.status, 0) << asked.err;
  EXPECT_EQ(repeatable(read_json_lines(run.out() / "metrics.jsonl")), repeatable(whole));
  EXPECT_EQ(checkpoints(), 2);
}

TEST(Train, ResumeFinishesARunThatWasKilledWhileItWroteItsResults) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "2").set("eval.sample_max_new_tokens", "4");
  const auto whole = run.train();
  // As if killed after final/ and before the last line.
  std::string text = read_file(run.out() / "metrics.jsonl");
  text.resize(text.rfind("{\"type\""));
  write_file(run.out() / "metrics.jsonl", text);
  fs::remove(run.out() / "samples.jsonl");
  EXPECT_EQ(repeatable(run.train({"--resume"})), repeatable(whole));
  EXPECT_TRUE(fs::exists(run.out() / "samples.jsonl"));
  // As if killed while it wrote the report.
  const std::string report = read_file(run.out() / "report.html");
  write_file(run.out() / ".report.html.new", "half a re");
  fs::remove(run.out() / "report.html");
  EXPECT_EQ(repeatable(run.train({"--resume"})), repeatable(whole));
  EXPECT_EQ(read_file(run.out() / "report.html"), report);
  EXPECT_FALSE(fs::exists(run.out() / ".report.html.new"));
}

TEST(Train, ResumePassesOverADamagedCheckpoint) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("save.every_steps", "5").set("train.learning_rate", "auto");
  const auto whole = run.output("whole").train();
  run.output("stopped");
  fs::copy(work / "whole", work / "stopped", fs::copy_options::recursive);
  fs::remove_all(work / "stopped/final");
  std::string text = read_file(run.out() / "metrics.jsonl");
  text.resize(text.rfind("{\"type\""));
  write_file(run.out() / "metrics.jsonl", text);
  const fs::path newest = run.out() / "checkpoints/step-24/optimizer.safetensors";
  ASSERT_TRUE(fs::exists(newest));
  std::string bytes = read_file(newest);
  bytes[bytes.size() / 2] ^= 1;
  write_file(newest, bytes);
  const Outcome resumed = run_ok(run.args({"--resume"}));
  EXPECT_NE(resumed.err.find("step-24"), std::string::npos) << resumed.err;
  EXPECT_EQ(repeatable(read_json_lines(run.out() / "metrics.jsonl")), repeatable(whole));
  EXPECT_EQ(read_file(run.out() / "final/adapter_model.safetensors"),
            read_file(work / "whole/final/adapter_model.safetensors"));
}

TEST(Train, ResumeRefusesOtherSettings) {
  const TestFolder work;
  TinyRun run(work);
  run.train();
  const Outcome refused = run_finetune(run.set("train.learning_rate", "2e-3").args({"--resume"}));
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("train.learning_rate"), std::string::npos) << refused.err;
}

TEST(Train, ResumeRefusesAnotherOptimizer) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").train();
  const Outcome refused = run_finetune(run.set("train.optimizer", "adamw8bit").args({"--resume"}));
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("train.optimizer"), std::string::npos) << refused.err;
}

TEST(Train, FusedUpdatesGiveTheBitsOfThePlainRun) {
  for (const char* method : {"lora", "full"}) {
    SCOPED_TRACE(method);
    const TestFolder work;
    TinyRun run(work);
    run.with_eval().set("eval.samples", "0").set("method", method).set("dtype", "bfloat16");
    run.set("train.max_grad_norm", "0").set("data.packing", "false");
    const auto plain = run.output("plain").train();
    EXPECT_EQ(repeatable(run.output("fused").set("train.fused_update", "true").train()),
              repeatable(plain));
    for (const std::string& file : files_below(work / "plain/final"))
      EXPECT_EQ(read_file(work / "plain/final" / file), read_file(work / "fused/final" / file))
          << file;
  }
}

TEST(Train, RefusesAFolderWithResultsUnlessToldTo) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "1").set("eval.sample_max_new_tokens", "2");
  run.set("data.packing", "false").set("save.every_steps", "4").train();
  const std::string before = read_file(run.out() / "metrics.jsonl");
  const Outcome refused = run_finetune(run.args());
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("--resume"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("--overwrite"), std::string::npos) << refused.err;
  EXPECT_EQ(read_file(run.out() / "metrics.jsonl"), before);

  // Nothing of the old run is left, or --resume would go on with it.
  TinyRun other(work);
  const auto metrics =
      other.set("train.max_steps", "2").set("save.every_steps", "2").train({"--overwrite"});
  EXPECT_EQ(lines_of(metrics, "train").size(), 2u);
  EXPECT_EQ(lines_of(metrics, "eval").size(), 0u);
  EXPECT_FALSE(fs::exists(other.out() / "best"));
  EXPECT_FALSE(fs::exists(other.out() / "samples.jsonl"));
  for (const auto& entry : fs::directory_iterator(other.out() / "checkpoints"))
    EXPECT_EQ(entry.path().filename(), "step-2");
}

TEST(Train, OverwriteKeepsTheOldResultsWhenTheNewRunCannotStart) {
  const TestFolder work;
  TinyRun run(work);
  run.train();
  const auto before = files_below(run.out());
  const Outcome failed =
      run_finetune(run.set("data.train", (work / "absent.jsonl").string()).args({"--overwrite"}));
  EXPECT_EQ(failed.status, 3) << failed.err;
  EXPECT_EQ(files_below(run.out()), before);
}

TEST(Train, OneRunAtATimeInAFolder) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("train.epochs", "200");
  Program first(run.args());
  wait_until([&] { return fs::exists(run.out() / "metrics.jsonl"); });
  const Outcome second = run_finetune(run.args({"--resume"}));
  first.kill(SIGTERM);
  EXPECT_EQ(first.wait().status, 143);
  EXPECT_EQ(second.status, 5);
  EXPECT_NE(second.err.find("in use"), std::string::npos) << second.err;
}

TEST(Train, EarlyStopping) {
  const TestFolder work;
  TinyRun run(work);
  // A rate that can only make it worse.
  run.with_eval().set("train.learning_rate", "2").set("data.packing", "false");
  run.set("eval.every_steps", "1")
      .set("eval.early_stopping_patience", "2")
      .set("train.epochs", "5");
  run.set("eval.samples", "0");
  const auto metrics = run.train();
  const auto losses = numbers(lines_of(metrics, "eval"), "loss");
  ASSERT_GE(losses.size(), 3u);
  EXPECT_LT(lines_of(metrics, "train").size(), 120u);
  const double best = metrics.back().get("best_eval_loss")->number();
  EXPECT_GE(losses[losses.size() - 1], best);
  EXPECT_GE(losses[losses.size() - 2], best);
}

}  // namespace
}  // namespace ft
