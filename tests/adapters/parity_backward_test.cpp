// parity/C_backward and F_merge: gradients of transformers and PEFT, merged weights of PEFT.
#include "adapters/adapters.h"
#include "fixtures.h"
#include "kernels/autograd.h"
#include "kernels/device.h"
#include "objectives/sft.h"

namespace ft {
namespace {

struct Run {
  std::string name;
  Recompute recompute;
};
class BackwardParity : public testing::TestWithParam<Run> {
 protected:
  void check_gradients(at::Device device) const;
};

/// Every case, with activations kept and recomputed.
std::vector<Run> backward_runs() {
  std::vector<Run> runs;
  for (const std::string& name : parity_cases(
           "C_backward", {"dora_llama", "full_gemma3", "full_llama", "lora_gemma3", "lora_llama",
                          "lora_modules_to_save_llama", "lora_qv_llama", "rslora_llama31"}))
    for (const Recompute recompute :
         {Recompute::kNothing, Recompute::kGateUp, Recompute::kBlocks, Recompute::kOffload})
      runs.push_back({name, recompute});
  return runs;
}

void BackwardParity::check_gradients(at::Device device) const {
  const fs::path folder = parity_case("C_backward", GetParam().name);
  FT_NEEDS(folder);
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto model = load_model(folder / "model", at::kFloat, device);
  if (fs::exists(folder / "adapter")) {
    load_adapter(*model, folder / "adapter");
    if (device.is_cuda())  // as the trainer does
      for (Block& block : model->decoder.blocks)
        add_borders(block, model->decoder.dtype, /*in_float8=*/false);
  } else {
    for (Param& p : model->params.all()) p.train();
  }
  model->decoder.recompute = GetParam().recompute;
  const Batch batch =
      packed_rows(expected.at("input_ids"), expected.at("labels"), *info.get("doc_bounds"));
  const Tensor loss = sft_loss(*model, batch).div(static_cast<double>(batch.num_targets()));
  EXPECT_NEAR(value(loss), value(expected.at("loss")), tolerance(info, "loss_abs"));
  run_backward(loss);
  expect_gradients(*model, expected, tolerance(info, "grad_rel_l2_per_tensor"));
}

TEST_P(BackwardParity, Gradients) {
  check_gradients(at::kCPU);
}

TEST_P(BackwardParity, CudaGradients) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  check_gradients(at::Device(at::kCUDA, 0));
}

INSTANTIATE_TEST_SUITE_P(Cases, BackwardParity, testing::ValuesIn(backward_runs()),
                         [](const auto& run) {
                           return run.param.name +
                                  (run.param.recompute == Recompute::kOffload  ? "_offload"
                                   : run.param.recompute == Recompute::kBlocks ? "_recompute"
                                   : run.param.recompute == Recompute::kGateUp ? "_selective"
                                                                               : "");
                         });

class MergeParity : public testing::TestWithParam<const char*> {};

TEST_P(MergeParity, MergedWeightsAndLogits) {
  const fs::path folder = parity_folder() / "F_merge" / GetParam();
  FT_NEEDS(folder);
  const TensorMap wanted = read_tensors(folder / "merged.safetensors");
  const auto model = load_model(folder / "model", std::nullopt, at::kCPU);
  const AdapterSet adapters = load_adapter(*model, folder / "adapter");
  size_t compared = 0;
  for (const auto& [name, merged] : merge_weights(*model, {{&adapters}}).tensors) {
    const auto found = wanted.find(name);
    if (found == wanted.end()) continue;
    ++compared;
    const Tensor& reference = found->second;
    ASSERT_EQ(merged.scalar_type(), reference.scalar_type()) << name;
    if (merged.scalar_type() == at::kFloat) {
      EXPECT_LE(figure("weight_max_abs", max_abs(merged, reference)), 2e-6) << name;
    } else {  // at most one unit in the last place, in at most 1 % of the elements
      const Tensor steps =
          merged.view(at::kShort).to(at::kInt).sub(reference.view(at::kShort).to(at::kInt)).abs();
      EXPECT_LE(figure("last_place", value(steps.max())), 1) << name;
      EXPECT_LE(value(steps.ne(0).to(at::kFloat).mean()), 0.01) << name;
    }
  }
  EXPECT_EQ(compared, wanted.size());
}

INSTANTIATE_TEST_SUITE_P(Llama, MergeParity,
                         testing::Values("lora_fp32", "lora_bf16", "rslora_fp32", "rslora_bf16",
                                         "dora_fp32", "dora_bf16"));

}  // namespace
}  // namespace ft
