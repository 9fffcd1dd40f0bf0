// The plan's arithmetic on a small model: parts that can be counted by hand, and what must grow or
// shrink with what.
#include "train/memory_plan.h"

#include <gtest/gtest.h>

#include "adapters/adapters.h"
#include "cli/tiny_run.h"

namespace ft {
namespace {

RunConfig small_run(const std::string& method) {
  RunConfig config;
  config.model = tiny_model().string();
  config.method = method;
  config.data.max_length = 256;
  return config;
}

MemoryPlan plan_of(const RunConfig& config, bool is_cuda = false) {
  const auto outline = outline_of_run(config);
  return plan_memory(config, asked_recompute(config.train).value_or(Recompute::kBlocks), *outline,
                     full_batch(config), is_cuda, 0);
}

TEST(MemoryPlan, CountsWeightsAndStateOfARealModel) {
  RunConfig config = small_run("full");
  const auto model = load_model(config.model, at::kBFloat16, at::kCPU);
  const int64_t all = model->params.num_elements(false);
  config.train.master_weights = "kahan";
  EXPECT_EQ(plan_of(config).weights, 2 * all);
  EXPECT_EQ(plan_of(config).optimizer, 10 * all);  // two float32 moments and 2 bytes carried along
  EXPECT_EQ(plan_of(config).snapshot, 12 * all);   // of both, on the host
  EXPECT_EQ(plan_of(config, /*is_cuda=*/true).snapshot, 0);
  config.eval.evaluations = 0;  // no checkpoint but the last
  EXPECT_EQ(plan_of(config).snapshot, 0);
  config.save.every_steps = 10;
  EXPECT_EQ(plan_of(config).snapshot, 12 * all);
  config.train.max_steps = 10;
  EXPECT_EQ(plan_of(config).snapshot, 0);
  config.train.max_steps.reset();
  config.train.master_weights = "float32";
  EXPECT_EQ(plan_of(config).optimizer, 12 * all);
  config.train.optimizer = "paged_adamw";
  EXPECT_EQ(plan_of(config).optimizer, 4 * all);
  EXPECT_EQ(plan_of(config).snapshot, 0);
}

TEST(MemoryPlan, CountsTheAdapterThatTheRunWouldTrain) {
  RunConfig config = small_run("lora");
  config.lora.modules_to_save = {"lm_head"};
  const auto model = load_model(config.model, at::kBFloat16, at::kCPU);
  attach_adapter(*model, config.lora, 1);
  const int64_t trained = model->params.num_elements(true);
  const MemoryPlan plan = plan_of(config);
  EXPECT_EQ(plan.adapter, 4 * trained);
  EXPECT_EQ(plan.optimizer, 8 * trained);
}

TEST(MemoryPlan, OrdersWhatTakesMoreAndLess) {
  const RunConfig lora = small_run("lora");
  RunConfig kept = lora, selective = lora, offload = lora, longer = lora, accumulated = lora,
            dora = lora;
  kept.train.gradient_checkpointing = "false";
  selective.train.gradient_checkpointing = "selective";
  offload.train.gradient_checkpointing = "offload";
  longer.data.max_length = 4096;
  accumulated.train.gradient_accumulation_steps = 2;
  dora.lora.use_dora = true;
  for (const bool is_cuda : {false, true}) {
    const int64_t peak = plan_of(lora, is_cuda).peak();
    EXPECT_GT(plan_of(selective, is_cuda).peak(), peak);
    EXPECT_GT(plan_of(kept, is_cuda).peak(), plan_of(selective, is_cuda).peak());
    EXPECT_LE(plan_of(offload, is_cuda).peak(), peak);
    EXPECT_GT(plan_of(longer, is_cuda).peak(), peak);
    EXPECT_GT(plan_of(accumulated, is_cuda).gradients, plan_of(lora, is_cuda).gradients);
    EXPECT_GT(plan_of(dora, is_cuda).adapter, plan_of(lora, is_cuda).adapter);
    EXPECT_GT(plan_of(small_run("full"), is_cuda).peak(), peak);
    EXPECT_LT(plan_of(small_run("qlora"), is_cuda).weights, plan_of(lora, is_cuda).weights);
  }
}

TEST(MemoryPlan, AutoTakesTheLeastRecomputationThatFits) {
  const auto peaks = [](Recompute r) {
    MemoryPlan plan;
    plan.activations = 40 - 10 * static_cast<int64_t>(r);
    return plan;
  };
  EXPECT_EQ(choose_recompute(peaks, 40, true), Recompute::kNothing);
  EXPECT_EQ(choose_recompute(peaks, 39, true), Recompute::kGateUp);
  EXPECT_EQ(choose_recompute(peaks, 29, true), Recompute::kBlocks);
  EXPECT_EQ(choose_recompute(peaks, 19, true), Recompute::kOffload);
  EXPECT_EQ(choose_recompute(peaks, 19, false), Recompute::kBlocks);
  RunConfig config;
  EXPECT_EQ(asked_recompute(config.train), std::nullopt);
  config.train.gradient_checkpointing = "selective";
  EXPECT_EQ(asked_recompute(config.train), Recompute::kGateUp);
}

}  // namespace
}  // namespace ft
