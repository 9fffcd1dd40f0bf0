// What a run computes must not depend on how it is computed: accumulation, packing, recomputing,
// master weights; and the options of an adapter do what they say.
#include <cmath>

#include "cli/edit_model.h"
#include "cli/tiny_run.h"

namespace ft {
namespace {

void expect_close(const std::vector<double>& a, const std::vector<double>& b, double relative) {
  ASSERT_EQ(a.size(), b.size());
  ASSERT_FALSE(a.empty());
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_LE(figure("relative", std::abs(a[i] / b[i] - 1)), relative) << "step " << i + 1;
}

TEST(TrainNumbers, AccumulationEqualsALargerBatch) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("train.epochs", "2");
  const auto large = lines_of(run.output("8x1").set("train.batch_size", "8").train(), "train");
  for (const char* batch : {"4", "2", "1"}) {
    SCOPED_TRACE(batch);
    run.set("train.batch_size", batch);
    run.set("train.gradient_accumulation_steps", std::to_string(8 / std::atoi(batch)));
    const auto other = lines_of(run.output(str("of ", batch)).train(), "train");
    expect_close(numbers(other, "loss"), numbers(large, "loss"), 1e-5);
    expect_close(numbers(other, "grad_norm"), numbers(large, "grad_norm"), 1e-5);
    EXPECT_EQ(numbers(other, "target_tokens"), numbers(large, "target_tokens"));
  }
}

TEST(TrainNumbers, DeterministicRunsAreTheSameBitForBit) {
  using Settings = std::vector<std::pair<std::string, std::string>>;
  const Settings kinds[] = {
      {{"lora.dropout", "0.1"}},
      {{"lora.use_dora", "true"}, {"dtype", "bfloat16"}},
      {{"method", "qlora"}, {"dtype", "bfloat16"}, {"train.gradient_accumulation_steps", "2"}},
      {{"method", "full"}, {"dtype", "bfloat16"}, {"train.optimizer", "adamw8bit"}}};
  for (const Settings& settings : kinds) {
    SCOPED_TRACE(settings[0].first + settings[0].second);
    const TestFolder work;
    TinyRun run(work);
    run.set("deterministic", "true").set("train.neftune_alpha", "5");
    for (const auto& [key, value] : settings) run.set(key, value);
    const auto first = repeatable(run.output("first").train());
    const auto second = repeatable(run.output("second").train());
    EXPECT_EQ(first, second);
    for (const auto& entry : fs::directory_iterator(work / "first/final")) {
      const std::string name = entry.path().filename().string();
      EXPECT_EQ(read_file(entry.path()), read_file(work / "second/final" / name)) << name;
    }
  }
}

TEST(TrainNumbers, PackingDoesNotChangeLosses) {
  const TestFolder work;
  work.file("eval.jsonl", conversations(30));
  const auto loss = [&](const std::string& setting) {
    return run_ok(with_settings({"eval", "--model", tiny_model().string(), "--data",
                                 (work / "eval.jsonl").string(), "--json"},
                                {"dtype=float32", setting}))
        .json();
  };
  const Json packed = loss("data.packing=true"), alone = loss("data.packing=false");
  EXPECT_NEAR(packed.get("loss")->number(), alone.get("loss")->number(), 1e-5);
  EXPECT_EQ(*packed.get("target_tokens"), *alone.get("target_tokens"));
}

TEST(TrainNumbers, RecomputingActivationsDoesNotChangeLosses) {
  for (const char* method : {"lora", "full"}) {
    const TestFolder work;
    TinyRun run(work);
    run.set("method", method).set("train.learning_rate", "1e-4");
    const auto with = run.output("with").set("train.gradient_checkpointing", "true").train();
    const auto without = run.output("without").set("train.gradient_checkpointing", "false").train();
    expect_close(numbers(lines_of(with, "train"), "loss"),
                 numbers(lines_of(without, "train"), "loss"), 1e-6);
    expect_close(numbers(lines_of(with, "train"), "grad_norm"),
                 numbers(lines_of(without, "train"), "grad_norm"), 1e-5);
  }
}

TEST(TrainNumbers, ABaseInEightBitsNeedsACardThatHasThem) {
  const TestFolder work;
  TinyRun run(work);
  run.set("dtype", "bfloat16").set("train.max_steps", "2").set("device", "cpu");
  const auto plain = lines_of(run.output("plain").train(), "train");
  run.output("float8").set("lora.base_dtype", "float8");
  const Outcome outcome = run_ok(run.args());
  EXPECT_NE(outcome.err.find("lora.base_dtype: float8 needs a GPU of compute capability 8.9"),
            std::string::npos)
      << outcome.err;
  EXPECT_EQ(numbers(lines_of(read_json_lines(run.out() / "metrics.jsonl"), "train"), "loss"),
            numbers(plain, "loss"));
}

TEST(TrainNumbers, AutoMayRecomputeAnythingWithoutChangingABit) {
  for (const char* method : {"lora", "full"}) {
    const TestFolder work;
    TinyRun run(work);
    run.set("method", method).set("dtype", "bfloat16");
    if (method == std::string("lora")) run.set("lora.dropout", "0.1");
    const auto weights = [&](const char* recompute) {
      run.output(recompute).set("train.gradient_checkpointing", recompute).train();
      return read_file(
          work.path() / recompute / "final" /
          (std::string(method) == "full" ? "model.safetensors" : "adapter_model.safetensors"));
    };
    const std::string kept = weights("false");
    EXPECT_EQ(weights("selective"), kept);
    EXPECT_EQ(weights("true"), kept);
  }
}

TEST(TrainNumbers, ReferenceKernelsGiveTheSameRun) {
  const TestFolder work;
  TinyRun run(work);
  const auto fused = run.output("fused").train();
  const auto plain = run.output("plain").set("kernels", "reference").train();
  expect_close(numbers(lines_of(fused, "train"), "loss"), numbers(lines_of(plain, "train"), "loss"),
               1e-5);
}

/// Distance of all weights from those of another folder's, as one vector.
double distance(const fs::path& a, const fs::path& b) {
  const TensorMap left = read_tensors(a / "model.safetensors"),
                  right = read_tensors(b / "model.safetensors");
  double sum = 0;
  for (const auto& [name, tensor] : left)
    sum += std::pow(value(tensor.to(at::kDouble).sub(right.at(name).to(at::kDouble)).norm()), 2);
  return std::sqrt(sum);
}

TEST(TrainNumbers, MasterWeightsKeepSmallUpdates) {
  const TestFolder work;
  TinyRun run(work);
  // Each step moves a weight by about 1e-5: less than half a unit of bfloat16 in most of them.
  run.set("method", "full").set("dtype", "bfloat16").set("train.learning_rate", "1e-5");
  run.set("data.packing", "false").set("train.epochs", "4");
  for (const char* mode : {"float32", "kahan", "stochastic", "none"}) {
    const auto metrics = run.output(mode).set("train.master_weights", mode).train();
    const auto losses = numbers(lines_of(metrics, "train"), "loss");
    ASSERT_EQ(losses.size(), 96u) << mode;
    for (const double loss : losses) EXPECT_TRUE(std::isfinite(loss));
  }
  const auto from_master = [&](const char* mode) {
    return distance(work / mode / "final", work / "float32/final");
  };
  EXPECT_LT(from_master("kahan"), 0.3 * from_master("none"));
  EXPECT_LT(from_master("stochastic"), 2 * from_master("none"));
  const TensorMap final_weights = read_tensors(work / "kahan/final/model.safetensors");
  for (const auto& [name, tensor] : final_weights) EXPECT_EQ(tensor.scalar_type(), at::kBFloat16);
}

TEST(TrainNumbers, FullFinalIsAWholeModel) {
  const TestFolder work;
  TinyRun run(work);
  const auto metrics = run.with_eval()
                           .set("eval.samples", "0")
                           .set("method", "full")
                           .set("train.learning_rate", "1e-4")
                           .train();
  const fs::path out = run.out() / "final";
  for (const char* file : {"config.json", "model.safetensors", "generation_config.json",
                           "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"})
    EXPECT_TRUE(fs::exists(out / file)) << file;
  const TensorMap before = read_tensors(tiny_model() / "model.safetensors"),
                  after = read_tensors(out / "model.safetensors");
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [name, tensor] : before) {
    EXPECT_EQ(after.at(name).scalar_type(), at::kFloat);
    EXPECT_GT(max_abs(after.at(name), tensor), 0) << name;
  }
  const Json eval = run_ok(with_settings({"eval", "--model", out.string(), "--data",
                                          (work / "eval.jsonl").string(), "--json"},
                                         {"dtype=float32"}))
                        .json();
  EXPECT_NEAR(eval.get("loss")->number(), metrics.back().get("final_eval_loss")->number(), 1e-5);
}

TEST(TrainNumbers, DropoutFollowsTheSeed) {
  const TestFolder work;
  TinyRun run(work);
  run.set("lora.dropout", "0.3");
  const auto first = repeatable(run.output("a").train());
  EXPECT_EQ(repeatable(run.output("b").train()), first);
  EXPECT_EQ(read_file(work / "a/final/adapter_model.safetensors"),
            read_file(work / "b/final/adapter_model.safetensors"));
  EXPECT_NE(repeatable(run.output("c").set("seed", "43").train()), first);
  EXPECT_NE(repeatable(run.output("d").set("seed", "42").set("lora.dropout", "0").train()), first);
}

TEST(TrainNumbers, NeftuneNoiseFollowsTheSeedAndStaysOutOfEvaluation) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "0");
  const auto plain = run.output("plain").train();
  run.set("train.neftune_alpha", "5");
  const auto first = run.output("a").train(), second = run.output("b").train();
  EXPECT_EQ(repeatable(first), repeatable(second));
  EXPECT_NE(lines_of(first, "train")[0].get("loss")->number(),
            lines_of(plain, "train")[0].get("loss")->number());
  EXPECT_EQ(lines_of(first, "eval")[0].get("loss")->number(),
            lines_of(plain, "eval")[0].get("loss")->number());
}

TensorMap adapter_of(const TinyRun& run) {
  return read_tensors(run.out() / "final/adapter_model.safetensors");
}

size_t count_names(const TensorMap& tensors, const std::string& part) {
  size_t n = 0;
  for (const auto& [name, tensor] : tensors) n += name.find(part) != std::string::npos;
  return n;
}

TEST(TrainAdapters, BiasesAreTrainedAndMerged) {
  const TestFolder work;
  const fs::path model = copy_model_with_biases(work);
  TinyRun run(work);
  run.set("model", model.string()).set("lora.target_modules", "[q_proj, v_proj]");
  run.output("none").train();
  EXPECT_EQ(count_names(adapter_of(run), ".bias"), 0u);
  run.output("lora_only").set("lora.bias", "lora_only").train();
  EXPECT_EQ(count_names(adapter_of(run), ".bias"), 4u);  // q and v of two layers
  run.output("all").set("lora.bias", "all").with_eval().set("eval.samples", "0");
  const auto metrics = run.train();
  EXPECT_EQ(count_names(adapter_of(run), ".bias"), 8u);
  const std::string final_loss = (run.out() / "final").string();
  run_ok({"merge", "--model", model.string(), "--adapter", final_loss, "--output",
          (work / "merged").string()});
  const Json eval = run_ok(with_settings({"eval", "--model", (work / "merged").string(), "--data",
                                          (work / "eval.jsonl").string(), "--json"},
                                         {"dtype=float32"}))
                        .json();
  EXPECT_NEAR(eval.get("loss")->number(), metrics.back().get("final_eval_loss")->number(), 1e-5);
}

TEST(TrainAdapters, ModulesToSave) {
  const TestFolder work;
  TinyRun run(work);
  run.set("lora.modules_to_save", "[lm_head, embed_tokens]").set("lora.target_modules", "[q_proj]");
  const auto metrics = run.with_eval().set("eval.samples", "0").train();
  const TensorMap adapter = adapter_of(run);
  ASSERT_TRUE(adapter.contains("base_model.model.lm_head.weight"));
  ASSERT_TRUE(adapter.contains("base_model.model.model.embed_tokens.weight"));
  const TensorMap base = read_tensors(tiny_model() / "model.safetensors");
  EXPECT_GT(max_abs(adapter.at("base_model.model.lm_head.weight"), base.at("lm_head.weight")), 0);
  const Json config = read_json(run.out() / "final/adapter_config.json");
  EXPECT_EQ(config.get("modules_to_save")->dump(), R"(["embed_tokens", "lm_head"])");
  const Json eval = run_ok(with_settings({"eval", "--model", tiny_model().string(), "--adapter",
                                          (run.out() / "final").string(), "--data",
                                          (work / "eval.jsonl").string(), "--json"},
                                         {"dtype=float32"}))
                        .json();
  EXPECT_NEAR(eval.get("loss")->number(), metrics.back().get("final_eval_loss")->number(), 1e-5);
}

TEST(TrainAdapters, RankAndAlphaPatterns) {
  const TestFolder work;
  TinyRun run(work);
  run.set("lora.r", "4").set("lora.rank_pattern", "{q_proj: 2, 'layers.1.self_attn.v_proj': 3}");
  run.set("lora.alpha_pattern", "{q_proj: 8}")
      .set("lora.target_modules", "[q_proj, v_proj]")
      .train();
  const TensorMap adapter = adapter_of(run);
  const auto rank = [&](const std::string& module) {
    return adapter.at("base_model.model.model." + module + ".lora_A.weight").size(0);
  };
  EXPECT_EQ(rank("layers.0.self_attn.q_proj"), 2);
  EXPECT_EQ(rank("layers.1.self_attn.q_proj"), 2);
  EXPECT_EQ(rank("layers.0.self_attn.v_proj"), 4);
  EXPECT_EQ(rank("layers.1.self_attn.v_proj"), 3);
  const Json config = read_json(run.out() / "final/adapter_config.json");
  EXPECT_EQ(config.get("rank_pattern")->get("q_proj")->integer(), 2);
  EXPECT_EQ(config.get("alpha_pattern")->get("q_proj")->number(), 8);
}

TEST(TrainAdapters, TargetsAsARegularExpression) {
  const TestFolder work;
  TinyRun run(work);
  run.set("lora.target_modules", R"('.*\.layers\.1\.mlp\.(up|down)_proj')").train();
  const TensorMap adapter = adapter_of(run);
  EXPECT_EQ(adapter.size(), 4u);
  EXPECT_EQ(count_names(adapter, "layers.1.mlp.up_proj.lora_"), 2u);
  EXPECT_EQ(count_names(adapter, "layers.1.mlp.down_proj.lora_"), 2u);
  EXPECT_TRUE(
      read_json(run.out() / "final/adapter_config.json").get("target_modules")->is_string());
}

TEST(TrainAdapters, ResumeFromTakesTheAdaptersOwnSettings) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "0").set("lora.r", "4").set("lora.alpha", "7");
  run.set("lora.target_modules", "[q_proj, down_proj]").set("lora.use_rslora", "true");
  const auto first = run.output("first").train();
  TinyRun next(work);
  next.with_eval().set("eval.samples", "0");
  next.set("lora.resume_from", (work / "first/final").string()).output("next");
  const auto second = next.train();
  // It starts where the first one ended, with its rank, scale and targets.
  EXPECT_NEAR(lines_of(second, "eval")[0].get("loss")->number(),
              first.back().get("final_eval_loss")->number(), 1e-6);
  const Json config = read_json(work / "next/final/adapter_config.json");
  EXPECT_EQ(config.get("r")->integer(), 4);
  EXPECT_EQ(config.get("lora_alpha")->number(), 7);
  EXPECT_TRUE(config.get("use_rslora")->boolean());
  EXPECT_EQ(config.get("target_modules")->dump(), R"(["down_proj", "q_proj"])");
  // config.yaml tells the same, and repeats the run.
  run_ok({"train", "--config", (work / "next/config.yaml").string(), "--set",
          "output_dir=" + (work / "again").string()});
  EXPECT_EQ(read_file(work / "again/final/adapter_model.safetensors"),
            read_file(work / "next/final/adapter_model.safetensors"));
  // A key that says otherwise is an error, the adapter's own value is not.
  next.output("refused");
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, std::string>>{{"lora.r", "16"},
                                                        {"lora.alpha", "8"},
                                                        {"lora.use_rslora", "false"},
                                                        {"lora.target_modules", "[q_proj]"}}) {
    TinyRun other = next;
    const Outcome refused = run_finetune(other.set(key, value).args());
    EXPECT_EQ(refused.status, 2) << key;
    EXPECT_NE(refused.err.find(key + ":"), std::string::npos) << refused.err;
  }
  next.set("lora.r", "4").set("lora.target_modules", "[down_proj, q_proj]").train();
}

TEST(TrainSchedule, RatesByHand) {
  struct Case {
    const char *scheduler, *warmup;
    std::vector<double> rates;  // of 8 steps, in units of the peak
  };
  const double root = std::sqrt(0.5);
  const Case cases[] = {
      {"constant", "0", {1, 1, 1, 1, 1, 1, 1, 1}},
      {"constant", "4", {0, 0.25, 0.5, 0.75, 1, 1, 1, 1}},
      {"linear", "0", {1, 7. / 8, 6. / 8, 5. / 8, 4. / 8, 3. / 8, 2. / 8, 1. / 8}},
      {"linear", "0.25", {0, 0.5, 1, 5. / 6, 4. / 6, 3. / 6, 2. / 6, 1. / 6}},
      {"cosine", "4", {0, 0.25, 0.5, 0.75, 1, (1 + root) / 2, 0.5, (1 - root) / 2}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(str(c.scheduler, " ", c.warmup));
    const TestFolder work;
    TinyRun run(work);
    run.set("train.max_steps", "8").set("data.packing", "false").set("train.learning_rate", "2e-3");
    const auto rates = numbers(
        lines_of(
            run.set("train.lr_scheduler", c.scheduler).set("train.warmup_steps", c.warmup).train(),
            "train"),
        "learning_rate");
    ASSERT_EQ(rates.size(), c.rates.size());
    for (size_t i = 0; i < rates.size(); ++i) EXPECT_NEAR(rates[i], 2e-3 * c.rates[i], 1e-12) << i;
  }
}

TEST(TrainStops, OnALossThatIsNotFinite) {
  const TestFolder work;
  const fs::path model = copy_model(work);
  edit_tensors(model / "model.safetensors", [](TensorMap& t) {
    t.at("model.layers.1.mlp.up_proj.weight")[3][5].fill_(std::nan(""));
  });
  TinyRun run(work);
  const Outcome outcome = run_finetune(run.set("model", model.string()).args());
  EXPECT_EQ(outcome.status, 4) << outcome.err;
  const size_t at = outcome.err.find("error: ");
  ASSERT_NE(at, std::string::npos) << outcome.err;
  const std::string line = outcome.err.substr(at);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
  EXPECT_NE(line.find("step 1:"), std::string::npos) << line;
  EXPECT_NE(line.find("not applied"), std::string::npos) << line;
  EXPECT_NE(line.find("not finite: model.layers.1.mlp.up_proj.weight"), std::string::npos) << line;
  EXPECT_FALSE(fs::exists(run.out() / "final"));
  EXPECT_EQ(read_file(run.out() / "metrics.jsonl"), "");
  // With data to evaluate on, the first line says so without breaking JSON.
  EXPECT_EQ(run_finetune(run.output("with-eval").with_eval().args()).status, 4);
  EXPECT_TRUE(read_json_lines(run.out() / "metrics.jsonl").at(0).get("loss")->is_null());
  run.output("out");
  for (const auto& [name, tensor] :
       read_tensors(run.out() / "checkpoints/step-0/trained.safetensors"))
    if (name.find("lora_B") != std::string::npos) {
      EXPECT_EQ(max_abs(tensor, tensor.mul(0)), 0) << name;
    }
}

TEST(TrainStops, OnAGradientThatIsNotFinite) {
  const TestFolder work;
  const fs::path model = copy_model(work);
  // Embeddings next to nothing, which the last norm makes very large: their gradients overflow.
  edit_json(model / "config.json", [](Json& config) { config.set("rms_norm_eps", 1e-60); });
  edit_tensors(model / "model.safetensors", [](TensorMap& t) {
    t.at("model.embed_tokens.weight").mul_(1e-16);
    t.at("model.norm.weight").mul_(1e25);
    for (auto& [name, tensor] : t)
      if (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")) tensor.zero_();
  });
  TinyRun run(work);
  run.set("model", model.string()).set("method", "full").set("dtype", "float32");
  const Outcome outcome = run_finetune(run.args());
  EXPECT_EQ(outcome.status, 4) << outcome.err;
  EXPECT_NE(outcome.err.find("gradient norm is"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("not finite: the gradient of model.embed_tokens.weight"),
            std::string::npos)
      << outcome.err;
}

TEST(TrainStops, WhenTheRunDiverges) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("train.learning_rate", "1e38");
  const Outcome outcome = run_finetune(run.args());
  EXPECT_EQ(outcome.status, 4) << outcome.err;
  const auto steps = read_json_lines(run.out() / "metrics.jsonl");
  ASSERT_FALSE(steps.empty());
  EXPECT_NE(outcome.err.find(str("step ", steps.size() + 1, ":")), std::string::npos)
      << outcome.err;
  EXPECT_TRUE(fs::exists(run.out() / "checkpoints" / str("step-", steps.size())));
}

}  // namespace
}  // namespace ft
