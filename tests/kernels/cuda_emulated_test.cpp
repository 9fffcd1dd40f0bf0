// The CUDA kernels, compiled for the CPU and run by the emulator, against the plain twins. Every
// kernel runs with its threads in two orders: a missing barrier shows as different bits.
#include "kernels/adamw8bit_cases.h"
#include "kernels/compare.h"
#include "kernels/emulate/emulated.h"
#include "kernels/float8.h"
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

void compare(const Op& op, const Launch& launch, const std::vector<Tensor>& wide_inputs,
             double factor = 2) {
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
    expect_as_exact(in_both_orders([&] { return launch(low, dy); }), twin, exact, factor);
  }
}

/// x in rows that are further apart than they are long.
Tensor spaced(const Tensor& x) {
  constexpr int64_t kSpare = 8;
  const Tensor wide = ops::full({x.size(0), x.size(1) + kSpare}, NAN, x.scalar_type());
  const Tensor rows = wide.narrow(1, 0, x.size(1));
  rows.copy_(x);
  return rows;
}
Tensor spaced_like(const Tensor& x) {
  return spaced(ops::full(x.sizes(), NAN, x.scalar_type()));
}
emulated::Rows rows(const Tensor& t) {
  if (!t.defined()) return {};
  return {t.data_ptr(), t.stride(0)};
}

/// Which operands a residual norm has.
struct NormCase {
  bool adds, norms_addend, norms_sum, adds_one;
};
constexpr NormCase kNormCases[] = {{false, false, true, false}, {false, false, true, true},
                                   {true, false, true, false},  {true, true, true, true},
                                   {true, true, true, false},   {true, true, false, true}};

std::vector<Tensor> launch_residual_norm(const NormCase& c, const std::vector<Tensor>& in,
                                         const Tensor& grad) {
  // in: x, then y, its weight and w, where they are.
  size_t next = 1;
  const Tensor x = spaced(in[0]), y = c.adds ? spaced(in[next++]) : Tensor(),
               y_weight = c.norms_addend ? in[next++] : Tensor(),
               w = c.norms_sum ? in[next++] : Tensor();
  const int64_t R = x.size(0), C = x.size(1);
  const Tensor sum = c.adds ? spaced_like(x) : Tensor(),
               out = c.norms_sum ? spaced_like(x) : Tensor();
  emulated::ResidualNorm p{.dtype = dtype_of(x),
                           .rows = R,
                           .width = C,
                           .x = rows(x),
                           .y = rows(y),
                           .y_weight = data(y_weight),
                           .w = data(w),
                           .eps = 1e-6f,
                           .adds_one = c.adds_one,
                           .sum = rows(sum),
                           .out = rows(out)};
  EXPECT_EQ(emulated::residual_norm(p, {}), cudaSuccess);
  const Tensor result = !c.adds        ? out.contiguous()
                        : !c.norms_sum ? sum.contiguous()
                                       : ops::cat({sum, out}, 1);
  const auto float_like = [&](const Tensor& weight, at::IntArrayRef sizes) {
    return weight.defined() ? ops::full(sizes, NAN, at::kFloat) : Tensor();
  };
  const Tensor dsum = c.adds ? spaced(grad.narrow(1, 0, C)) : Tensor(),
               dout = c.norms_sum ? spaced(grad.narrow(1, grad.size(1) - C, C)) : Tensor();
  const Tensor dx = c.norms_sum ? spaced_like(x) : dsum,
               dy = c.norms_addend ? spaced_like(x) : Tensor();
  const Tensor dw = float_like(w, {C}), dy_weight = float_like(y_weight, {C}),
               partial = float_like(w, {emulated::kNormPartials, C}),
               y_partial = float_like(y_weight, {emulated::kNormPartials, C});
  emulated::ResidualNormBackward b{.dtype = dtype_of(x),
                                   .rows = R,
                                   .width = C,
                                   .dsum = rows(dsum),
                                   .dout = rows(dout),
                                   .sum = rows(c.adds ? sum : x),
                                   .y = rows(c.norms_addend ? y : Tensor()),
                                   .w = data(w),
                                   .y_weight = data(y_weight),
                                   .eps = 1e-6f,
                                   .adds_one = c.adds_one,
                                   .dx = rows(dx),
                                   .dy = rows(dy),
                                   .dw = data<float>(dw),
                                   .dy_weight = data<float>(dy_weight),
                                   .partial = data<float>(partial),
                                   .y_partial = data<float>(y_partial)};
  EXPECT_EQ(emulated::residual_norm_backward(b, {}), cudaSuccess);
  std::vector<Tensor> all = {result, dx.contiguous()};
  if (c.adds) all.push_back((c.norms_addend ? dy : dx).contiguous());
  if (c.norms_addend) all.push_back(dy_weight.to(x.scalar_type()));
  if (c.norms_sum) all.push_back(dw.to(x.scalar_type()));
  // Without the weights' gradients each row has a block of its own: the same bits.
  b.dw = b.dy_weight = nullptr;
  const Tensor again = c.norms_sum ? spaced_like(x) : dsum;
  b.dx = rows(again);
  EXPECT_EQ(emulated::residual_norm_backward(b, {}), cudaSuccess);
  EXPECT_TRUE(same_bits(again.contiguous(), dx.contiguous()));
  return all;
}

TEST(CudaEmulated, ResidualNorm) {
  const std::vector<int64_t> shapes[] = {{1, 1},   {1, 7},    {3, 64},
                                         {2, 257}, {5, 1000}, {513, 8}};  // past kNormPartials
  // A weight's gradient is a sum over rows of rounded sums: one case's luck is another's.
  constexpr double kSumFactor = 8;
  for (const auto& shape : shapes)
    for (const NormCase& c : kNormCases) {
      SCOPED_TRACE(shape_text(shape));
      std::vector<Tensor> inputs;
      inputs.reserve(4);
      inputs.push_back(normal(shape, 1));
      if (c.adds) inputs.push_back(normal(shape, 2));
      if (c.norms_addend) inputs.push_back(normal({shape[1]}, 3));
      if (c.norms_sum) inputs.push_back(normal({shape[1]}, 4));
      const Op op = [&](const std::vector<Tensor>& in) {
        size_t next = 1;
        const Tensor y = c.adds ? in[next++] : Tensor(),
                     y_weight = c.norms_addend ? in[next++] : Tensor(),
                     w = c.norms_sum ? in[next++] : Tensor();
        const SumAndNorm r = residual_norm(in[0], y, y_weight, w, {1e-6, c.adds_one});
        if (!c.adds) return r.norm;
        return c.norms_sum ? ops::cat({r.sum, r.norm}, 1) : r.sum;
      };
      compare(
          op,
          [&](const std::vector<Tensor>& in, const Tensor& dy) {
            return launch_residual_norm(c, in, dy);
          },
          inputs, kSumFactor);
    }
}

/// Queries and keys as columns of one matrix with other columns behind, rotated in place or, with
/// norms, into a matrix of their own; the gradients go where the queries and keys were.
std::vector<Tensor> launch_qk_rope(const std::vector<Tensor>& in, const Tensor& dy,
                                   const Tensor& cos, const Tensor& sin, int64_t H, int64_t K) {
  const int64_t N = in[0].size(0), D = in[0].size(2);
  const bool normed = in.size() > 2;
  const auto columns = [&](const Tensor& q, const Tensor& k) {
    return spaced(ops::cat({q.reshape({N, H * D}), k.reshape({N, K * D})}, 1));
  };
  const auto keys = [&](const Tensor& both) {
    return emulated::Rows{both.narrow(1, H * D, K * D).data_ptr(), both.stride(0)};
  };
  const auto heads = [&](const Tensor& both) { return both.reshape({N, H + K, D}); };
  const Tensor from = columns(in[0], in[1]), to = normed ? spaced_like(from) : from;
  emulated::QkRope p{.dtype = dtype_of(from),
                     .tokens = N,
                     .q_heads = H,
                     .k_heads = K,
                     .head_size = D,
                     .q = rows(from),
                     .k = keys(from),
                     .q_weight = normed ? data(in[2]) : nullptr,
                     .k_weight = normed ? data(in[3]) : nullptr,
                     .eps = 1e-6f,
                     .adds_one = true,
                     .cos = data<float>(cos),
                     .sin = data<float>(sin),
                     .q_out = rows(to),
                     .k_out = keys(to)};
  EXPECT_EQ(emulated::qk_rope(p, {}), cudaSuccess);
  std::vector<Tensor> all = {heads(to).clone()};
  const Tensor grads = spaced(dy.reshape({N, (H + K) * D}));
  const auto of_weight = [&](at::IntArrayRef sizes) {
    return normed ? ops::full(sizes, NAN, at::kFloat) : Tensor();
  };
  const Tensor q_dw = of_weight({D}), k_dw = of_weight({D}),
               q_partial = of_weight({emulated::kNormPartials, D}),
               k_partial = of_weight({emulated::kNormPartials, D});
  p.q_out = rows(from);
  p.k_out = keys(from);
  const emulated::QkRopeBackward b{.forward = p,
                                   .dq = rows(grads),
                                   .dk = keys(grads),
                                   .q_dw = data<float>(q_dw),
                                   .k_dw = data<float>(k_dw),
                                   .q_partial = data<float>(q_partial),
                                   .k_partial = data<float>(k_partial)};
  EXPECT_EQ(emulated::qk_rope_backward(b, {}), cudaSuccess);
  const Tensor back = heads(from);
  all.push_back(back.narrow(1, 0, H).contiguous());
  all.push_back(back.narrow(1, H, K).contiguous());
  if (normed) all.push_back(q_dw.to(from.scalar_type()));
  if (normed) all.push_back(k_dw.to(from.scalar_type()));
  return all;
}

TEST(CudaEmulated, QkRope) {
  struct Sizes {
    int64_t N, H, K, D;
  };
  constexpr Sizes kSizes[] = {{1, 1, 1, 2},   {3, 5, 1, 6},    {7, 2, 2, 64}, {2, 9, 3, 128},
                              {2, 3, 1, 256}, {4, 33, 11, 34}, {515, 1, 1, 4}};
  for (const Sizes& s : kSizes)
    for (const bool normed : {false, true}) {
      SCOPED_TRACE(shape_text({s.N, s.H, s.K, s.D}));
      const Tensor angles = normal({s.N, s.D / 2}, 3);
      const Tensor cos = angles.cos().to(at::kFloat), sin = angles.sin().to(at::kFloat);
      std::vector<Tensor> inputs = {normal({s.N, s.H, s.D}, 4), normal({s.N, s.K, s.D}, 5)};
      if (normed) inputs.insert(inputs.end(), {normal({s.D}, 6), normal({s.D}, 7)});
      const Op op = [&](const std::vector<Tensor>& in) {
        const auto one = [&](const Tensor& x, size_t weight) {
          return rope(normed ? rms_norm(x, in[weight], {1e-6, true}) : x, {cos, sin});
        };
        return ops::cat({one(in[0], 2), one(in[1], 3)}, 1);
      };
      compare(
          op,
          [&](const std::vector<Tensor>& in, const Tensor& dy) {
            return launch_qk_rope(in, dy, cos, sin, s.H, s.K);
          },
          inputs);
    }
}

/// What the forward pass makes comes out of the backward pass once more, over the gradient; gate's
/// and up's gradients take their places.
std::vector<Tensor> launch_gated_act(Activation activation, const std::vector<Tensor>& in,
                                     const Tensor& dy,
                                     const std::function<Tensor(const Tensor&)>& as) {
  const Tensor gate = as(in[0]), up = as(in[1]),
               y = as(ops::full(dy.sizes(), NAN, dy.scalar_type())), grad = as(dy);
  emulated::GatedAct p{dtype_of(gate), gate.size(0), gate.size(1), activation,
                       rows(gate),     rows(up),     rows(y),      {}};
  EXPECT_EQ(emulated::gated_act(p, {}), cudaSuccess);
  p.y = rows(grad);
  EXPECT_EQ(emulated::gated_act_backward({p, rows(grad), rows(gate), rows(up), {}}, {}),
            cudaSuccess);
  EXPECT_TRUE(same_bits(grad.contiguous(), y.contiguous()));
  return {y.contiguous(), gate.contiguous(), up.contiguous()};
}

TEST(CudaEmulated, GatedAct) {
  const std::vector<int64_t> shapes[] = {{1, 1}, {1, 255}, {3, 256}, {2, 264}, {7, 1001}};
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh})
    for (const auto& shape : shapes)
      for (const bool is_spaced : {false, true}) {
        SCOPED_TRACE(shape_text(shape));
        compare([&](const std::vector<Tensor>& in) { return gated_act(in[0], in[1], activation); },
                [&](const std::vector<Tensor>& in, const Tensor& dy) {
                  return launch_gated_act(activation, in, dy, [&](const Tensor& t) {
                    return is_spaced ? spaced(t) : t.clone();
                  });
                },
                // Three times the usual spread: the tails of the activation count too.
                {normal(shape, 5).mul(3), normal(shape, 6)});
      }
}

TEST(CudaEmulated, DropoutMask) {
  for (const at::ScalarType dtype : kDtypes) {
    const Tensor wanted = dropout_mask(7, 101, 0.3, 99, dtype, at::kCPU);
    const GridLimit limit(2);
    const auto launch = [&] {
      const Tensor mask = ops::full({7, 101}, NAN, dtype);
      EXPECT_EQ(emulated::dropout_mask(
                    {dtype_of(mask), mask.numel(), 99, static_cast<uint64_t>(0.3 * 0x1p32),
                     static_cast<float>(1 / 0.7), data(mask)},
                    {}),
                cudaSuccess);
      return std::vector<Tensor>{mask};
    };
    EXPECT_TRUE(same_bits(in_both_orders(launch)[0], wanted));
  }
}

TEST(CudaEmulated, BorderOfAdapters) {
  const int64_t in = 20, outs[] = {5, 3, 9}, ranks[] = {4, 0, 2}, out = 17, rank = 6;
  const Tensor a1 = normal({4, in}, 1).to(at::kFloat), b1 = normal({5, 4}, 2).to(at::kFloat),
               a3 = normal({2, in}, 3).to(at::kFloat), b3 = normal({9, 2}, 4).to(at::kFloat);
  for (const at::ScalarType dtype : kDtypes) {
    const Tensor weights = normal({out, in}, 5).to(dtype);
    const auto launch = [&] {
      const Tensor m = ops::full({out + rank, in + rank}, NAN, dtype);
      m.narrow(0, 0, out).narrow(1, 0, in).copy_(weights);
      m.narrow(0, out, rank).narrow(1, in, rank).zero_();  // the corner is nobody's
      emulated::Border p{.dtype = dtype_of(m),
                         .adapter_dtype = emulated::Dtype::kFloat32,
                         .parts = 3,
                         .in = in,
                         .out = out,
                         .outs = {outs[0], outs[1], outs[2]},
                         .ranks = {ranks[0], ranks[1], ranks[2]},
                         .a = {data(a1), nullptr, data(a3)},
                         .b = {data(b1), nullptr, data(b3)},
                         .scales = {0.5f, 1.0f, 2.0f},
                         .a_to = rows(m.narrow(0, out, rank)),
                         .b_to = {data(m.narrow(1, in, rank)), m.stride(0)}};
      EXPECT_EQ(emulated::border(p, {}), cudaSuccess);
      return std::vector<Tensor>{m};
    };
    const Tensor wanted = ops::zeros({out + rank, in + rank}, dtype);
    wanted.narrow(0, 0, out).narrow(1, 0, in).copy_(weights);
    wanted.narrow(0, out, 4).narrow(1, 0, in).copy_(a1);
    wanted.narrow(0, out + 4, 2).narrow(1, 0, in).copy_(a3);
    wanted.narrow(0, 0, 5).narrow(1, in, 4).copy_(b1.mul(0.5));
    wanted.narrow(0, 8, 9).narrow(1, in + 4, 2).copy_(b3.mul(2));
    EXPECT_TRUE(same_bits(in_both_orders(launch)[0], wanted));
  }
}

emulated::Float8Out float8_out(const Float8Rows& t) {
  return {data<uint8_t>(t.codes), data<float>(t.scales), kFloat8Most, kFloat8LeastScale};
}
Float8Rows fresh_float8(int64_t count, int64_t width) {
  return {ops::full({count, width}, 1, at::kFloat).to(at::kFloat8_e4m3fn),
          ops::full({count, 1}, NAN, at::kFloat)};
}

TEST(CudaEmulated, GatedActRoundsToFloat8) {
  constexpr int64_t kCount = 3, kWidth = 528;
  for (const at::ScalarType dtype : kDtypes) {
    SCOPED_TRACE(toString(dtype));
    const Tensor gate = normal({kCount, kWidth}, 1).to(dtype),
                 up = normal({kCount, kWidth}, 2).to(dtype),
                 dy = normal({kCount, kWidth}, 3).to(dtype);
    const auto launch = [&] {
      const Float8Rows y8 = fresh_float8(kCount, kWidth), d8 = fresh_float8(kCount, 2 * kWidth);
      const Tensor y = ops::empty_like(gate), d = ops::full({kCount, 2 * kWidth}, NAN, dtype);
      emulated::GatedAct p{dtype_of(gate), kCount,   kWidth,  Activation::kSilu,
                           rows(gate),     rows(up), rows(y), float8_out(y8)};
      EXPECT_EQ(emulated::gated_act(p, {}), cudaSuccess);
      p.rounded = {};
      EXPECT_EQ(emulated::gated_act_backward({p, rows(dy), rows(d.narrow(1, 0, kWidth)),
                                              rows(d.narrow(1, kWidth, kWidth)), float8_out(d8)},
                                             {}),
                cudaSuccess);
      return std::vector<Tensor>{y, d, y8.codes, y8.scales, d8.codes, d8.scales};
    };
    const auto made = in_both_orders(launch);
    const Float8Rows y8 = to_float8(made[0]), d8 = to_float8(made[1]);
    EXPECT_TRUE(same_bits(made[2], y8.codes));
    EXPECT_TRUE(same_bits(made[3], y8.scales));
    EXPECT_TRUE(same_bits(made[4], d8.codes));
    EXPECT_TRUE(same_bits(made[5], d8.scales));
  }
}

TEST(CudaEmulated, ToFloat8) {
  for (const at::ScalarType dtype : kDtypes)
    for (const auto& [count, width] : {std::pair<int64_t, int64_t>{3, 16}, {5, 48}, {2, 4112}}) {
      SCOPED_TRACE(testing::Message() << toString(dtype) << ", " << count << " x " << width);
      const Tensor x = spaced(normal({count, width}, 7).mul(30)).to(dtype);
      x[0].zero_();
      x[1][width - 1] = INFINITY;
      const Float8Rows wanted = to_float8(x);
      const auto launch = [&] {
        const auto [codes, scales] = fresh_float8(count, width);
        EXPECT_EQ(emulated::to_float8({.dtype = dtype_of(x),
                                       .rows = count,
                                       .width = width,
                                       .x = rows(x),
                                       .rounded = float8_out({codes, scales})},
                                      {}),
                  cudaSuccess);
        return std::vector<Tensor>{codes, scales};
      };
      const auto made = in_both_orders(launch);
      EXPECT_TRUE(same_bits(made[0], wanted.codes));
      EXPECT_TRUE(same_bits(made[1], wanted.scales));
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

emulated::Adamw adamw_arguments(const Tensor& param, const Tensor& grad, float* m, float* v,
                                const Tensor& extra, const AdamwSettings& s) {
  return {dtype_of(param),
          dtype_of(grad),
          param.numel(),
          data(param),
          data(grad),
          m,
          v,
          data(extra),
          s.master,
          adamw_factors(s),
          s.rounding_key,
          s.first_element,
          s.device_scale};
}

class CudaEmulatedAdamw : public testing::TestWithParam<AdamwCase> {};

TEST_P(CudaEmulatedAdamw, AsPlain) {
  const AdamwUpdate launch = [](const AdamwState& t, const Tensor& g, const AdamwSettings& s) {
    emulated::AdamwMany call{.tensors = 1, .of = {}};
    call.of[0] =
        adamw_arguments(t.param, g, data<float>(t.exp_avg), data<float>(t.exp_avg_sq), t.extra, s);
    EXPECT_EQ(emulated::adamw(call, {}), cudaSuccess);
  };
  for (const int64_t n : {1, 255, 256, 2051, 16385}) {
    SCOPED_TRACE(n);
    const auto fused = in_both_orders([&] { return three_steps(GetParam(), n, launch).tensors(); });
    expect_as_plain_adamw(GetParam(), n, {fused[0], fused[1], fused[2], fused[3]});
  }
}

TEST_P(CudaEmulatedAdamw, With8bitMomentsAsPlain) {
  const GridLimit limit(3);
  const Adamw8bitUpdate launch = [](const Adamw8bitState& t, const Tensor& g,
                                    const AdamwSettings& s) {
    const emulated::Adamw8bit p{adamw_arguments(t.param, g, nullptr, nullptr, t.extra, s),
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

/// Weight and moments of tensors of different sizes after a step in one launch.
std::vector<Tensor> update_many(const std::vector<int64_t>& sizes, const double* device_scale) {
  std::vector<Tensor> all, grads;
  emulated::AdamwMany call{.tensors = 0, .of = {}};
  for (const int64_t n : sizes) {
    const auto place = static_cast<uint64_t>(call.tensors);
    all.push_back(normal({n}, 2 * place).to(at::kFloat));
    for (int i = 0; i < 2; ++i) all.push_back(ops::zeros({n}, at::kFloat));
    grads.push_back(normal({n}, 2 * place + 1).to(at::kFloat));
    const Tensor* t = &all[3 * place];
    call.of[call.tensors++] =
        adamw_arguments(t[0], grads.back(), data<float>(t[1]), data<float>(t[2]), {},
                        {.learning_rate = 0.1 * static_cast<double>(place + 1),
                         .beta1 = 0.9,
                         .beta2 = 0.95,
                         .eps = 1e-8,
                         .weight_decay = 0.1,
                         .step = 1,
                         .grad_scale = 0.5,
                         .device_scale = device_scale});
  }
  EXPECT_EQ(emulated::adamw(call, {}), cudaSuccess);
  return all;
}

TEST(CudaEmulated, AdamwOfManyTensors) {
  const std::vector<int64_t> sizes = {5, 16384, 1, 40000, 300};
  const double scale = 0.25, none = NAN;
  const auto together = in_both_orders([&] { return update_many(sizes, &scale); });
  const PlainTwins plain;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const Tensor param = normal({sizes[i]}, 2 * i).to(at::kFloat),
                 grad = normal({sizes[i]}, 2 * i + 1).to(at::kFloat),
                 m = ops::zeros({sizes[i]}, at::kFloat), v = ops::zeros({sizes[i]}, at::kFloat);
    adamw(param, grad, m, v, {},
          {.learning_rate = 0.1 * static_cast<double>(i + 1),
           .beta1 = 0.9,
           .beta2 = 0.95,
           .eps = 1e-8,
           .weight_decay = 0.1,
           .step = 1,
           .grad_scale = 0.5 * scale});
    EXPECT_LT(worst_error(together[3 * i], param.to(at::kDouble)), 1e-6);
    EXPECT_LT(worst_error(together[3 * i + 1], m.to(at::kDouble)), 1e-7);
    EXPECT_LT(worst_error(together[3 * i + 2], v.to(at::kDouble)), 1e-7);
  }
  // A scale that is no number: nothing is touched.
  const auto untouched = update_many(sizes, &none);
  for (size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_TRUE(same_bits(untouched[3 * i], normal({sizes[i]}, 2 * i).to(at::kFloat)));
    EXPECT_EQ(untouched[3 * i + 1].abs().sum().item().toDouble(), 0);
  }
}

TEST(CudaEmulated, NothingToDoIsNoError) {
  emulated::ResidualNorm norm{};
  norm.width = 8;
  EXPECT_EQ(emulated::residual_norm(norm, {}), cudaSuccess);
  emulated::GatedAct act{};
  act.width = 8;
  EXPECT_EQ(emulated::gated_act(act, {}), cudaSuccess);
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
