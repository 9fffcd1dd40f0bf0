// parity/D_training: twenty AdamW steps against PEFT and torch: losses, gradient norms, final
// weights.
#include "base/error.h"
#include "fixtures.h"
#include "train/step.h"

namespace ft {
namespace {

class TrainingParity : public testing::TestWithParam<std::string> {};

TEST_P(TrainingParity, TwentySteps) {
  const fs::path folder = parity_case("D_training", GetParam());
  FT_NEEDS(folder);
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto model = load_model(folder / "model", at::kFloat, at::kCPU);
  model->decoder.recompute = Recompute::kBlocks;
  std::optional<AdapterSet> adapters;
  if (fs::exists(folder / "adapter")) {
    adapters = load_adapter(*model, folder / "adapter");
  } else {
    for (Param& p : model->params.all()) p.train();
  }
  RunConfig config;
  const Json& settings = *info.get("optimizer");
  config.train.weight_decay = settings.get("weight_decay")->number();
  config.train.max_grad_norm =
      info.get("clip_norm")->is_null() ? 0 : info.get("clip_norm")->number();
  Optimizer optimizer(model->params.trainable(), config.train, 0);
  const int64_t accumulation = info.get("grad_accumulation")->integer(),
                steps = info.get("steps")->integer();
  const auto& bounds = info.get("doc_bounds_per_micro_batch")->array();
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<Batch> batches;
    for (int64_t i = step * accumulation; i < (step + 1) * accumulation; ++i) {
      const auto at_i = [&](const char* name) {
        return expected.at(std::string(name) + "_" + std::to_string(i));
      };
      batches.push_back(
          packed_rows(at_i("input_ids"), at_i("labels"), bounds[static_cast<size_t>(i)]));
    }
    const StepResult r = train_step({*model, adapters ? &*adapters : nullptr, optimizer, config},
                                    batches, step, settings.get("lr")->number());
    const double loss = value(expected.at("losses")[step]);
    figure("loss_relative", std::abs(r.loss / loss - 1));
    EXPECT_NEAR(r.loss, loss, tolerance(info, "loss_abs")) << "step " << step;
    const double norm = value(expected.at("grad_norms")[step]);
    EXPECT_NEAR(r.grad_norm, norm, norm * tolerance(info, "grad_norm_rel")) << "step " << step;
  }
  size_t compared = 0;
  for (const auto& [name, wanted] : read_tensors(folder / "final.safetensors")) {
    const Tensor& final_value = model->params.at(name).value;
    EXPECT_LE(relative_l2(final_value, wanted), tolerance(info, "final_rel_l2_per_tensor")) << name;
    EXPECT_LE(max_abs(final_value, wanted), tolerance(info, "final_max_abs")) << name;
    ++compared;
  }
  EXPECT_EQ(compared, model->params.trainable().size());
}

INSTANTIATE_TEST_SUITE_P(
    Cases, TrainingParity,
    testing::ValuesIn(parity_cases("D_training",
                                   {"gemma3_full", "gemma3_full_accum4_wd_clip03", "llama_lora",
                                    "llama_lora_accum4_wd_clip03", "llama_lora_clip_sometimes"})),
    case_name);

}  // namespace
}  // namespace ft
