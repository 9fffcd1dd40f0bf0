// Every op of the catalogue: fused against plain, forward and backward, on the CPU and (skipped, by
// name, without one) on a CUDA device; the plain twins against finite differences in float64.
#include "kernels/kernels.h"

#include "data/batch.h"
#include "figure.h"
#include "kernels/compare.h"
#include "kernels/device.h"
#include "kernels/matrix_unit.h"

namespace ft {
namespace {

using Inputs = std::vector<Tensor>;

struct OpCase {
  const char* name;
  std::vector<std::vector<int64_t>> inputs;  ///< sizes; all get gradients
  std::function<Tensor(const Inputs&)> op;
  double factor = 2;  ///< allowed error, in errors of the plain twin in the same dtype
};

/// LibTorch's flash attention rounds the probabilities to the low precision before it multiplies
/// them with v; the plain twin, all float32 inside, errs less than others in bfloat16 do.
constexpr double kFlashFactor = 4;

/// A weight's gradient is a sum over rows of rounded sums: one case's luck is another's.
constexpr double kSumFactor = 4;

void PrintTo(const OpCase& c, std::ostream* out) {
  *out << c.name;
}

Tensor rotate(const Tensor& x) {
  const Tensor angles = normal({x.size(0), x.size(2) / 2}, 50).to(x.device());
  return rope(x, {angles.cos().to(at::kFloat), angles.sin().to(at::kFloat)});
}

Tensor adapted(const Inputs& in, double dropout) {
  return linear(in[0], {{in[1], nullptr}, in[2], {in[3], in[4], 0.5, dropout, 77}});
}

/// The norm is a constant: positive numbers that depend on the size only.
Tensor dora(const Inputs& in, double dropout) {
  const Tensor norm = normal(in[5].sizes(), 51).abs().add(0.5).to(wide_dtype(in[0]));
  return linear(
      in[0],
      {{in[1], nullptr}, in[2], {in[3], in[4], 0.5, dropout, 77}, in[5], norm.to(in[0].device())});
}

Tensor both(const SumAndNorm& r) {
  return ops::cat({r.sum, r.norm}, 1);
}

Tensor tokens(const std::vector<int64_t>& ids, const Tensor& like) {
  return ops::from_vector(ids, like.device());
}

/// Every third row without a target.
Targets some_targets(const Tensor& h, int64_t V) {
  std::vector<int64_t> targets;
  for (int64_t i = 0; i < h.size(0); ++i) targets.push_back(i % 3 == 1 ? kIgnore : i * 7 % V);
  return make_targets(targets, h.device());
}

std::vector<std::vector<int64_t>> attention_sizes(int64_t N, int64_t H, int64_t K, int64_t D) {
  return {{N, H, D}, {N, K, D}, {N, K, D}};
}
std::function<Tensor(const Inputs&)> attend(const Documents& documents,
                                            const AttentionSettings& settings) {
  return [=](const Inputs& in) { return attention(in[0], in[1], in[2], documents, settings); };
}

const OpCase kOps[] = {
    {"rms_norm", {{5, 33}, {33}}, [](const Inputs& in) { return rms_norm(in[0], in[1], {1e-6}); }},
    {"rms_norm_one_row",
     {{1, 4}, {4}},
     [](const Inputs& in) { return rms_norm(in[0], in[1], {1e-6}); }},
    {"rms_norm_heads",
     {{4, 3, 16}, {16}},
     [](const Inputs& in) { return rms_norm(in[0], in[1], {1e-5}); }},
    {"rms_norm_adds_one",
     {{5, 33}, {33}},
     [](const Inputs& in) {
       return rms_norm(in[0], in[1], {1e-6, true});
     }},
    {"residual_norm",
     {{5, 33}, {5, 33}, {33}},
     [](const Inputs& in) { return both(residual_norm(in[0], in[1], {}, in[2], {1e-6})); }},
    {"residual_norm_of_normed",
     {{5, 33}, {5, 33}, {33}, {33}},
     [](const Inputs& in) {
       return both(residual_norm(in[0], in[1], in[3], in[2], {1e-6, true}));
     }},
    {"residual_norm_sum_only",
     {{5, 33}, {5, 33}, {33}},
     [](const Inputs& in) {
       return residual_norm(in[0], in[1], in[2], {}, {1e-6, true}).sum;
     }},
    {"residual_norm_norm_only",
     {{5, 33}, {5, 33}, {33}},
     [](const Inputs& in) { return residual_norm(in[0], in[1], {}, in[2], {1e-6}).norm; },
     kSumFactor},
    {"rope", {{7, 3, 10}}, [](const Inputs& in) { return rotate(in[0]); }},
    {"silu",
     {{5, 21}, {5, 21}},
     [](const Inputs& in) { return gated_act(in[0], in[1], Activation::kSilu); }},
    {"gelu",
     {{5, 21}, {5, 21}},
     [](const Inputs& in) { return gated_act(in[0], in[1], Activation::kGeluTanh); }},
    {"attention", attention_sizes(9, 4, 2, 8), attend({{0, 3, 4, 9}}, {0.35}), kFlashFactor},
    {"attention_window", attention_sizes(9, 4, 2, 8), attend({{0, 3, 4, 9}}, {0.35, 2}),
     kFlashFactor},
    {"attention_one_token_window", attention_sizes(5, 2, 1, 8), attend({{0, 5}}, {0.35, 1}),
     kFlashFactor},
    {"attention_softcap", attention_sizes(9, 4, 2, 8), attend({{0, 3, 4, 9}}, {0.9, 0, 1.5})},
    {"attention_softcap_window", attention_sizes(9, 4, 2, 8),
     attend({{0, 3, 4, 9}}, {0.9, 3, 1.5})},
    {"linear",
     {{6, 20}, {11, 20}},
     [](const Inputs& in) {
       return linear(in[0], {{in[1], nullptr}});
     }},
    {"linear_bias",
     {{6, 20}, {11, 20}, {11}},
     [](const Inputs& in) {
       return linear(in[0], {{in[1], nullptr}, in[2]});
     }},
    {"lora",
     {{6, 20}, {11, 20}, {11}, {3, 20}, {11, 3}},
     [](const Inputs& in) { return adapted(in, 0); }},
    {"lora_dropout",
     {{6, 20}, {11, 20}, {11}, {3, 20}, {11, 3}},
     [](const Inputs& in) { return adapted(in, 0.3); }},
    {"dora",
     {{6, 20}, {11, 20}, {11}, {3, 20}, {11, 3}, {11}},
     [](const Inputs& in) { return dora(in, 0); }},
    {"dora_dropout",
     {{6, 20}, {11, 20}, {11}, {3, 20}, {11, 3}, {11}},
     [](const Inputs& in) { return dora(in, 0.3); }},
    {"embedding",
     {{12, 5}},
     [](const Inputs& in) {
       return embedding(tokens({3, 3, 0, 11}, in[0]), in[0]);
     }},
    {"linear_cross_entropy",
     {{10, 6}, {13, 6}},
     [](const Inputs& in) { return linear_cross_entropy(in[0], in[1], some_targets(in[0], 13)); }},
    {"linear_cross_entropy_softcap",
     {{10, 6}, {13, 6}},
     [](const Inputs& in) {
       return linear_cross_entropy(in[0], in[1], some_targets(in[0], 13), 1.5);
     }},
    // The rows with a target, repeated up to 64, are as many as all rows.
    {"linear_cross_entropy_64",
     {{64, 3}, {5, 3}},
     [](const Inputs& in) { return linear_cross_entropy(in[0], in[1], some_targets(in[0], 5)); }},
    {"linear_cross_entropy_all",
     {{4, 6}, {13, 6}},
     [](const Inputs& in) {
       return linear_cross_entropy(in[0], in[1], make_targets({1, 12, 0, 5}, in[0].device()));
     }},
};

std::function<Tensor(const Inputs&)> op(std::string_view name) {
  for (const OpCase& c : kOps)
    if (c.name == name) return c.op;
  return {};
}

/// The same ops at sizes past a block, a chunk of rows, a thread's share.
const OpCase kLargeOps[] = {
    {"rms_norm_large", {{70, 1031}, {1031}}, op("rms_norm")},
    {"rms_norm_adds_one_large", {{70, 1031}, {1031}}, op("rms_norm_adds_one")},
    {"rope_large", {{67, 9, 128}}, op("rope")},
    {"silu_large", {{130, 517}, {130, 517}}, op("silu")},
    {"gelu_large", {{130, 517}, {130, 517}}, op("gelu")},
    {"attention_large", attention_sizes(150, 6, 2, 64), attend({{0, 1, 70, 150}}, {0.125}),
     kFlashFactor},
    {"attention_window_large", attention_sizes(900, 4, 2, 64),
     attend({{0, 1, 300, 900}}, {0.125, 100}), kFlashFactor},
    {"attention_window_256", attention_sizes(400, 4, 1, 256), attend({{0, 30, 400}}, {0.0625, 96}),
     kFlashFactor},
    {"attention_softcap_large", attention_sizes(700, 4, 2, 64),
     attend({{0, 1, 70, 700}}, {0.125, 130, 2})},
    {"linear_large", {{70, 300}, {517, 300}, {517}}, op("linear_bias")},
    {"linear_long_sum", {{33, 5000}, {40, 5000}}, op("linear")},
    {"lora_large", {{70, 300}, {517, 300}, {517}, {16, 300}, {517, 16}}, op("lora")},
    {"lora_dropout_large",
     {{70, 300}, {517, 300}, {517}, {33, 300}, {517, 33}},
     [](const Inputs& in) { return adapted(in, 0.2); }},
    {"dora_large",
     {{70, 300}, {517, 300}, {517}, {16, 300}, {517, 16}, {517}},
     [](const Inputs& in) { return dora(in, 0.2); }},
    {"linear_cross_entropy_large",
     {{1700, 8}, {50, 8}},
     [](const Inputs& in) { return linear_cross_entropy(in[0], in[1], some_targets(in[0], 50)); }},
};

std::vector<OpCase> all_ops() {
  std::vector<OpCase> all(std::begin(kOps), std::end(kOps));
  all.insert(all.end(), std::begin(kLargeOps), std::end(kLargeOps));
  return all;
}
std::string op_name(const testing::TestParamInfo<OpCase>& info) {
  return info.param.name;
}

std::vector<Tensor> inputs_of(const OpCase& c) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i) inputs.push_back(normal(c.inputs[i], i + 1));
  return inputs;
}

void compare_on(at::Device device, const OpCase& c, at::ScalarType dtype,
                KernelMode mode = KernelMode::kAuto) {
  SCOPED_TRACE(toString(dtype));
  std::vector<Tensor> inputs;
  for (const Tensor& x : inputs_of(c)) inputs.push_back(x.to(dtype).to(at::kDouble));
  set_kernel_mode(mode);
  const auto fused = output_and_gradients(c.op, inputs, dtype, device);
  const PlainTwins plain;
  expect_as_exact(fused, output_and_gradients(c.op, inputs, dtype),
                  output_and_gradients(c.op, inputs, at::kDouble), c.factor);
}

class KernelOps : public testing::TestWithParam<OpCase> {};

TEST_P(KernelOps, CpuLoopsAsPlain) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    compare_on(at::kCPU, GetParam(), dtype);
}

TEST_P(KernelOps, CpuLoopsWithoutMatrixUnitAsPlain) {
  if (!has_matrix_unit()) GTEST_SKIP() << "no matrix unit: CpuLoopsAsPlain is this test";
  compare_on(at::kCPU, GetParam(), at::kBFloat16, KernelMode::kNoMatrixUnit);
}

TEST_P(KernelOps, CudaKernelsAsPlain) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf})
    compare_on(at::Device(at::kCUDA, 0), GetParam(), dtype);
}

INSTANTIATE_TEST_SUITE_P(Catalogue, KernelOps, testing::ValuesIn(all_ops()), op_name);

class KernelGradients : public testing::TestWithParam<OpCase> {};

/// Central differences of sum(y * dy) for every element of every input, in float64.
TEST_P(KernelGradients, PlainTwinsAgreeWithFiniteDifferences) {
  const OpCase& c = GetParam();
  const PlainTwins plain;
  const std::vector<Tensor> inputs = inputs_of(c);
  const auto analytic = output_and_gradients(c.op, inputs, at::kDouble);
  ASSERT_EQ(analytic[0].scalar_type(), at::kDouble);
  const Tensor dy = normal(analytic[0].sizes(), 99);
  at::NoGradGuard guard;
  const auto objective = [&] { return c.op(inputs).mul(dy).sum().item().toDouble(); };
  constexpr double kStep = 1e-5;
  for (size_t k = 0; k < inputs.size(); ++k) {
    const Tensor x = inputs[k].view(-1), slopes = ops::empty({x.numel()}, at::kDouble);
    auto *p = static_cast<double*>(x.data_ptr()), *out = static_cast<double*>(slopes.data_ptr());
    for (int64_t i = 0; i < x.numel(); ++i) {
      const double old = p[i];
      p[i] = old + kStep;
      const double above = objective();
      p[i] = old - kStep;
      out[i] = (above - objective()) / (2 * kStep);
      p[i] = old;
    }
    // The differences of order kStep^2, and rounding over kStep, both near 1e-10 of values near 10.
    EXPECT_LE(figure("slope_error", worst_error(slopes.view(inputs[k].sizes()), analytic[k + 1])),
              1e-7)
        << "input " << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Catalogue, KernelGradients, testing::ValuesIn(kOps), op_name);

TEST(DoraNorm, IsThatOfTheSumInAnyPrecisionOfTheBase) {
  // 40000 inputs: the weight is taken in blocks of 26 rows.
  const int64_t in = 40000, out = 61, R = 5;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Tensor w = normal({out, in}, 1).to(dtype);
    const LoraOperands lora{normal({R, in}, 2).to(at::kFloat), normal({out, R}, 3).to(at::kFloat),
                            0.5};
    const Tensor sum = lora.b.to(at::kDouble).mm(lora.a.to(at::kDouble)).mul(0.5).add(w);
    const Tensor norm = dora_norm({w, nullptr}, row_squares({w, nullptr}), lora),
                 exact = sum.square().sum(1).sqrt();
    EXPECT_LE(worst_error(norm.to(at::kDouble).div(exact), exact.div(exact)), 1e-6);
  }
}

TEST(DoraNorm, OfNothingIsNotZero) {
  const Tensor w = ops::zeros({3, 4}, at::kFloat);
  const LoraOperands lora{normal({2, 4}, 2).to(at::kFloat), ops::zeros({3, 2}, at::kFloat), 1};
  EXPECT_TRUE(w.sum(1)
                  .div(dora_norm({w, nullptr}, row_squares({w, nullptr}), lora))
                  .eq(0)
                  .all()
                  .item()
                  .toBool());
}

TEST(TokenLosses, AreTheRowsOfTheSum) {
  const Tensor h = normal({70, 12}, 1).to(at::kFloat), w = normal({40, 12}, 2).to(at::kFloat);
  const Targets targets = some_targets(h, 40);
  const Tensor losses = token_losses(h, w, targets);
  EXPECT_NEAR(losses.sum().item().toDouble(), linear_cross_entropy(h, w, targets).item().toDouble(),
              1e-3);
  EXPECT_EQ(losses[1].item().toDouble(), 0);  // has no target
  const PlainTwins plain;
  const Tensor exact = token_losses(h.to(at::kDouble), w.to(at::kDouble), targets);
  expect_as_exact({losses}, {token_losses(h, w, targets)}, {exact});
}

TEST(Dropout, KeepsTheRightShareAndDependsOnTheKeyOnly) {
  const auto mask = [](uint64_t key) {
    return dropout_mask(200, 500, 0.3, key, at::kFloat, at::kCPU);
  };
  EXPECT_TRUE(same_bits(mask(5), mask(5)));
  EXPECT_FALSE(same_bits(mask(5), mask(6)));
  // 100000 draws: the share's standard deviation is 0.0015; five of them.
  EXPECT_NEAR(mask(5).eq(0).to(at::kFloat).mean().item().toDouble(), 0.3, 0.0075);
  EXPECT_NEAR(mask(5).max().item().toDouble(), 1 / 0.7, 1e-6);
}

}  // namespace
}  // namespace ft
