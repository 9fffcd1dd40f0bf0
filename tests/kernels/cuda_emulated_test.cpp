// The CUDA kernels, compiled for the CPU and run by the emulator, against the plain twins. Every
// kernel runs with its threads in two orders: a missing barrier shows as different bits.
#include "kernels/adamw8bit_cases.h"
#include "kernels/compare.h"
#include "kernels/emulate/emulated.h"
#include "kernels/kernels.h"

namespace ft {
namespace {

constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

emulated::Dtype dtype_of(const Tensor& x) {
  if (x.scalar_type() == at::kFloat) return emulated::Dtype::kFloat32;
  return x.scalar_type() == at::kBFloat16 ? emulated::Dtype::kBFloat16 : emulated::Dtype::kFloat16;
}
template <typename T = void>
T* data(const Tensor& t) {
  return t.defined() ? static_cast<T*>(t.data_ptr()) : nullptr;
}
Tensor filled_like(const Tensor& x) {  // so that an element nobody writes shows
  return ops::full(x.sizes(), NAN, x.scalar_type());
}

/// launch() makes fresh outputs; the same bits in both orders.
std::vector<Tensor> in_both_orders(const std::function<std::vector<Tensor>()>& launch) {
  emulate::set_order(emulate::Order::kBackward);
  const std::vector<Tensor> backward = launch();
  emulate::set_order(emulate::Order::kForward);
  std::vector<Tensor> forward = launch();
  for (size_t i = 0; i < forward.size(); ++i)
    EXPECT_TRUE(same_bits(forward[i], backward[i])) << "output " << i << " depends on the order";
  return forward;
}

/// Blocks of every launch below, while it lives.
struct GridLimit {
  explicit GridLimit(unsigned blocks) { emulate::limit_grid(blocks); }
  ~GridLimit() { emulate::limit_grid(0); }
};

using Op = std::function<Tensor(const std::vector<Tensor>&)>;
/// Launches forward and backward for inputs and the output's gradient: output, gradients.
using Launch = std::function<std::vector<Tensor>(const std::vector<Tensor>&, const Tensor&)>;

void compare(const Op& op, const Launch& launch, const std::vector<Tensor>& wide_inputs) {
  for (const at::ScalarType dtype : kDtypes) {
    SCOPED_TRACE(toString(dtype));
    std::vector<Tensor> low, inputs;
    for (const Tensor& x : wide_inputs) {
      low.push_back(x.to(dtype));
      inputs.push_back(low.back().to(at::kDouble));
    }
    const PlainTwins plain;
    const auto exact = output_and_gradients(op, inputs, at::kDouble);
    const auto twin = output_and_gradients(op, inputs, dtype);
    const Tensor dy = normal(twin[0].sizes(), 99).to(dtype);
    expect_as_exact(in_both_orders([&] { return launch(low, dy); }), twin, exact);
  }
}

TEST(CudaEmulated, RmsNorm) {
  const std::vector<int64_t> shapes[] = {{1, 1},    {1, 7},    {3, 64}, {2, 257},
                                         {5, 1000}, {2, 4099}, {513, 8}};  // past kNormPartials
  for (const auto& shape : shapes)
    for (const bool adds_one : {false, true}) {
      SCOPED_TRACE(shape_text(shape));
      const int64_t rows = shape[0], width = shape[1];
      const NormSettings settings{1e-6, adds_one};
      const Launch launch = [&](const std::vector<Tensor>& in, const Tensor& dy) {
        const Tensor &x = in[0], &w = in[1];
        const Tensor y = filled_like(x), dx = filled_like(x);
        const Tensor dw = ops::full({width}, NAN, at::kFloat);
        const Tensor partial = ops::full({emulated::kNormPartials, width}, NAN, at::kFloat);
        const auto feps = static_cast<float>(settings.eps);
        EXPECT_EQ(emulated::rms_norm(
                      {dtype_of(x), rows, width, data(x), data(w), feps, adds_one, data(y)}, {}),
                  cudaSuccess);
        const emulated::RmsNormBackward p{dtype_of(x),
                                          rows,
                                          width,
                                          data(dy),
                                          data(x),
                                          data(w),
                                          feps,
                                          adds_one,
                                          data(dx),
                                          data<float>(dw),
                                          data<float>(partial)};
        EXPECT_EQ(emulated::rms_norm_backward(p, {}), cudaSuccess);
        return std::vector<Tensor>{y, dx, dw.to(w.scalar_type())};
      };
      compare([&](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], settings); },
              launch, {normal(shape, 1), normal({width}, 2)});
    }
}

TEST(CudaEmulated, RmsNormBackwardWithoutWeightGradient) {
  const Tensor x = normal({3, 40}, 1).to(at::kFloat), w = normal({40}, 2).to(at::kFloat),
               dy = normal({3, 40}, 3).to(at::kFloat), dx = filled_like(x), again = filled_like(x);
  const Tensor dw = ops::empty({40}, at::kFloat),
               partial = ops::empty({emulated::kNormPartials, 40}, at::kFloat);
  emulated::RmsNormBackward p{dtype_of(x), 3,     40,       data(dy), data(x), data(w),
                              1e-6f,       false, data(dx), nullptr,  nullptr};
  emulated::rms_norm_backward(p, {});
  p.dx = data(again);
  p.dw = data<float>(dw);
  p.partial = data<float>(partial);
  emulated::rms_norm_backward(p, {});
  EXPECT_TRUE(same_bits(dx, again));
}

TEST(CudaEmulated, Rope) {
  const std::vector<int64_t> shapes[] = {{1, 1, 2},   {3, 5, 6},   {7, 2, 64},
                                         {2, 9, 128}, {2, 3, 256}, {4, 33, 34}};
  for (const auto& shape : shapes) {
    SCOPED_TRACE(shape_text(shape));
    const Tensor angles = normal({shape[0], shape[2] / 2}, 3);
    const Tensor cos = angles.cos().to(at::kFloat), sin = angles.sin().to(at::kFloat);
    const Launch launch = [&](const std::vector<Tensor>& in, const Tensor& dy) {
      const auto rotate = [&](const Tensor& x, float sign) {
        Tensor y = filled_like(x);
        const emulated::Rope p{dtype_of(x),      shape[0],         shape[1], shape[2], data(x),
                               data<float>(cos), data<float>(sin), sign,     data(y)};
        EXPECT_EQ(emulated::rope(p, {}), cudaSuccess);
        return y;
      };
      return std::vector<Tensor>{rotate(in[0], 1), rotate(dy, -1)};
    };
    compare([&](const std::vector<Tensor>& in) { return rope(in[0], cos, sin); }, launch,
            {normal(shape, 4)});
  }
}

TEST(CudaEmulated, GatedAct) {
  const std::vector<int64_t> shapes[] = {{1, 1}, {1, 255}, {1, 256}, {1, 257}, {7, 1001}};
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const auto& shape : shapes) {
      SCOPED_TRACE(shape_text(shape));
      const GridLimit limit(3);
      const Launch launch = [&](const std::vector<Tensor>& in, const Tensor& dy) {
        const Tensor &gate = in[0], &up = in[1];
        const Tensor y = filled_like(gate), dgate = filled_like(gate), dup = filled_like(gate);
        const emulated::GatedAct p{dtype_of(gate), gate.numel(), activation,
                                   data(gate),     data(up),     data(y)};
        EXPECT_EQ(emulated::gated_act(p, {}), cudaSuccess);
        const emulated::GatedActBackward b{dtype_of(gate), gate.numel(), activation,  data(dy),
                                           data(gate),     data(up),     data(dgate), data(dup)};
        EXPECT_EQ(emulated::gated_act_backward(b, {}), cudaSuccess);
        return std::vector<Tensor>{y, dgate, dup};
      };
      // Three times the usual spread: the tails of the activation count too.
      compare([&](const std::vector<Tensor>& in) { return gated_act(in[0], in[1], activation); },
              launch, {normal(shape, 5).mul(3), normal(shape, 6)});
    }
  }
}

Tensor some_targets(int64_t rows, int64_t width) {
  std::vector<int64_t> targets;
  for (int64_t i = 0; i < rows; ++i) targets.push_back((width - 1) * (i + 1) / rows);
  return ops::from_vector(targets);
}

/// Losses, and the logits as the call leaves them.
std::vector<Tensor> launch_cross_entropy(const Tensor& logits, const Tensor& targets,
                                         bool overwrite) {
  const Tensor copy = logits.clone();
  const Tensor losses = ops::full({logits.size(0)}, NAN, at::kFloat);
  const emulated::CrossEntropy p{dtype_of(copy), copy.size(0),           copy.size(1),
                                 data(copy),     data<int64_t>(targets), data<float>(losses),
                                 overwrite};
  EXPECT_EQ(emulated::cross_entropy(p, {}), cudaSuccess);
  return {losses, copy};
}

/// The same with ATen: float32 or float64 losses, gradient rounded to the dtype of the logits.
std::vector<Tensor> plain_cross_entropy(const Tensor& logits, const Tensor& targets) {
  const Tensor log_p = logits.to(wide_dtype(logits)).log_softmax(-1), at = targets.unsqueeze(1);
  const Tensor minus_one = ops::full({logits.size(0), 1}, -1, log_p.scalar_type());
  return {log_p.gather(1, at).squeeze(1).neg(),
          log_p.exp().scatter_add(1, at, minus_one).to(logits.scalar_type())};
}

TEST(CudaEmulated, CrossEntropy) {
  const std::vector<int64_t> shapes[] = {{1, 1},   {1, 2},     {3, 31},
                                         {5, 257}, {2, 32000}, {2, 262145}};
  for (const auto& shape : shapes) {
    for (const at::ScalarType dtype : kDtypes) {
      SCOPED_TRACE(shape_text(shape) + toString(dtype));
      const Tensor logits = normal(shape, 7).mul(4).to(dtype);
      const Tensor targets = some_targets(shape[0], shape[1]);
      const auto fused =
          in_both_orders([&] { return launch_cross_entropy(logits, targets, true); });
      expect_as_exact(fused, plain_cross_entropy(logits, targets),
                      plain_cross_entropy(logits.to(at::kDouble), targets));
      const auto only_losses = launch_cross_entropy(logits, targets, false);
      EXPECT_TRUE(same_bits(only_losses[0], fused[0]));
      EXPECT_TRUE(same_bits(only_losses[1], logits));
    }
  }
}

TEST(CudaEmulated, CrossEntropyOfExtremeRows) {
  const Tensor logits = normal({5, 300}, 8).to(at::kFloat), targets = some_targets(5, 300);
  logits[0][7] = NAN;
  logits[1][7] = INFINITY;
  logits[2][7] = -INFINITY;  // probability 0, as a masked token has
  logits[3].add_(1e30);
  const Tensor losses = launch_cross_entropy(logits, targets, true)[0].isfinite();
  const bool wanted[] = {false, false, true, true, true};
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(losses[i].item().toBool(), wanted[i]) << "row " << i;
}

class CudaEmulatedAdamw : public testing::TestWithParam<AdamwCase> {};

TEST_P(CudaEmulatedAdamw, AsPlain) {
  const GridLimit limit(3);
  const AdamwUpdate launch = [](const AdamwState& t, const Tensor& g, const AdamwSettings& s) {
    const emulated::Adamw p{dtype_of(t.param),
                            dtype_of(g),
                            t.param.numel(),
                            data(t.param),
                            data(g),
                            data<float>(t.exp_avg),
                            data<float>(t.exp_avg_sq),
                            data(t.extra),
                            s.master,
                            adamw_factors(s),
                            s.rounding_key,
                            s.first_element};
    EXPECT_EQ(emulated::adamw(p, {}), cudaSuccess);
  };
  for (const int64_t n : {1, 255, 256, 2051}) {
    SCOPED_TRACE(n);
    const auto fused = in_both_orders([&] { return three_steps(GetParam(), n, launch).tensors(); });
    expect_as_plain_adamw(GetParam(), n, {fused[0], fused[1], fused[2], fused[3]});
  }
}

TEST_P(CudaEmulatedAdamw, With8bitMomentsAsPlain) {
  const GridLimit limit(3);
  const Adamw8bitUpdate launch = [](const Adamw8bitState& t, const Tensor& g,
                                    const AdamwSettings& s) {
    const emulated::Adamw weights{dtype_of(t.param), dtype_of(g),    t.param.numel(),
                                  data(t.param),     data(g),        nullptr,
                                  nullptr,           data(t.extra),  s.master,
                                  adamw_factors(s),  s.rounding_key, s.first_element};
    const emulated::Adamw8bit p{weights,
                                data<uint8_t>(t.moments.exp_avg),
                                data<uint8_t>(t.moments.exp_avg_sq),
                                data<float>(t.moments.exp_avg_scale),
                                data<float>(t.moments.exp_avg_sq_scale),
                                data<float>(t.moments.tables)};
    EXPECT_EQ(emulated::adamw8bit(p, {}), cudaSuccess);
  };
  for (const int64_t n : {1, 255, 256, 2051}) {
    SCOPED_TRACE(n);
    expect_as_plain_8bit(GetParam(), n, in_both_orders([&] {
                           return three_8bit_steps(GetParam(), n, launch).tensors();
                         }));
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaEmulatedAdamw, testing::ValuesIn(kAdamwCases), adamw_case_name);

TEST(CudaEmulated, NothingToDoIsNoError) {
  EXPECT_EQ(emulated::rms_norm(
                {emulated::Dtype::kFloat32, 0, 8, nullptr, nullptr, 1e-6f, false, nullptr}, {}),
            cudaSuccess);
  EXPECT_EQ(emulated::gated_act(
                {emulated::Dtype::kFloat16, 0, Activation::kSilu, nullptr, nullptr, nullptr}, {}),
            cudaSuccess);
}

// The emulator itself: what it must not let pass.

void half_of_the_block_waits(int) {
  if (threadIdx.x < 32) __syncthreads();
}
void reads_before_all_have_written(int* out) {
  __shared__ int value[64];
  value[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = value[63 - threadIdx.x];  // no barrier in between
  __syncthreads();
  value[threadIdx.x] = -1;
}

TEST(Emulator, FindsABarrierNotReachedByAll) {
  cudaLaunchConfig_t config;
  config.blockDim = dim3(64);
  EXPECT_THROW(cudaLaunchKernelEx(&config, half_of_the_block_waits, 0), std::logic_error);
}

TEST(Emulator, AMissingBarrierDependsOnTheOrder) {
  cudaLaunchConfig_t config;
  config.blockDim = dim3(64);
  int forward[64], backward[64];
  cudaLaunchKernelEx(&config, reads_before_all_have_written, static_cast<int*>(forward));
  emulate::set_order(emulate::Order::kBackward);
  cudaLaunchKernelEx(&config, reads_before_all_have_written, static_cast<int*>(backward));
  emulate::set_order(emulate::Order::kForward);
  EXPECT_NE(std::memcmp(forward, backward, sizeof(forward)), 0);
}

}  // namespace
}  // namespace ft
