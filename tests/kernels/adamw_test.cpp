// AdamW: fused (CPU loops, CUDA kernel) against plain in every master mode, plain against numbers
// worked out by hand, and what the master modes are for.
#include "kernels/adamw_cases.h"
#include "kernels/device.h"

namespace ft {
namespace {

void compare_on(at::Device device, const AdamwCase& c) {
  const AdamwUpdate fused = [](const AdamwState& t, const Tensor& g, const AdamwSettings& s) {
    adamw(t.param, g, t.exp_avg, t.exp_avg_sq, t.extra, s);
  };
  for (const int64_t n : {1, 255, 70001}) {
    SCOPED_TRACE(n);
    expect_as_plain_adamw(c, n, three_steps(c, n, fused, device));
  }
}

class Adamw : public testing::TestWithParam<AdamwCase> {};

TEST_P(Adamw, CpuLoopsAsPlain) {
  compare_on(at::kCPU, GetParam());
}

TEST_P(Adamw, CudaKernelAsPlain) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  compare_on(at::Device(at::kCUDA, 0), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, Adamw, testing::ValuesIn(kAdamwCases), adamw_case_name);

TEST(AdamwPlain, FirstStepByHand) {
  const PlainTwins plain;
  const Tensor param = ops::full({1}, 2, at::kDouble), grad = ops::full({1}, 4, at::kDouble);
  const Tensor m = ops::zeros({1}, at::kDouble), v = ops::zeros({1}, at::kDouble);
  adamw(param, grad, m, v, {}, {0.1, 0.9, 0.99, 0, 0.5, 1, 0.25});
  // g = 1: the bias-corrected moments are 1 and 1, the step is the rate; decay 0.1 * 0.5 * 2.
  EXPECT_NEAR(param.item().toDouble(), 2 - 0.1 - 0.1, 1e-12);
  EXPECT_NEAR(m.item().toDouble(), 0.1, 1e-12);
  EXPECT_NEAR(v.item().toDouble(), 0.01, 1e-12);
}

/// The mean of 512 weights after 1000 steps of 1e-4 down from 1: each step is a fortieth of
/// bfloat16's spacing there.
double after_small_steps(MasterWeights master) {
  constexpr int64_t kCount = 512;
  const Tensor param = ops::full({kCount}, 1, at::kBFloat16), grad = param.clone();
  const Tensor m = ops::zeros({kCount}, at::kFloat), v = ops::zeros({kCount}, at::kFloat);
  Tensor extra;
  if (master == MasterWeights::kKahan) extra = ops::zeros({kCount}, at::kBFloat16);
  if (master == MasterWeights::kFloat32) extra = param.to(at::kFloat);
  for (int64_t step = 1; step <= 1000; ++step)
    adamw(param, grad, m, v, extra,
          {1e-4, 0.9, 0.99, 1e-8, 0, step, 1, master, mix64(static_cast<uint64_t>(step))});
  return param.to(at::kDouble).mean().item().toDouble();
}

TEST(AdamwMaster, KeepsWhatBfloat16Loses) {
  EXPECT_EQ(after_small_steps(MasterWeights::kNone), 1.0);
  // One spacing of bfloat16 below 1 is 0.0039.
  EXPECT_NEAR(after_small_steps(MasterWeights::kFloat32), 0.9, 0.004);
  EXPECT_NEAR(after_small_steps(MasterWeights::kKahan), 0.9, 0.004);
  EXPECT_NEAR(after_small_steps(MasterWeights::kStochastic), 0.9, 0.004);
}

TEST(AdamwDecay, SmallDecayKeepsItsDigits) {
  // A factor 1 - 1e-7 in float32 is 1 - 1.19e-7: a fifth too much, always in the same direction.
  const Tensor param = ops::full({4}, 1, at::kBFloat16), grad = ops::zeros({4}, at::kBFloat16);
  const Tensor m = ops::zeros({4}, at::kFloat), v = ops::zeros({4}, at::kFloat);
  const Tensor kept = ops::zeros({4}, at::kBFloat16);
  adamw(param, grad, m, v, kept, {1e-5, 0.9, 0.99, 1e-8, 0.01, 1, 1, MasterWeights::kKahan});
  EXPECT_NEAR(kept[3].item().toDouble(), -1e-7, 1e-9);
}

}  // namespace
}  // namespace ft
