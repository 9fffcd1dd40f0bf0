// Layers that share an input: as one group, with and without a border, against each layer alone.
#include "kernels/linear_group.h"

#include "kernels/compare.h"
#include "kernels/device.h"
#include "kernels/linear_border.h"

namespace ft {
namespace {

constexpr int64_t kRows = 6, kIn = 64, kOuts[] = {11, 5, 9}, kRanks[] = {4, 0, 2};
constexpr double kScales[] = {0.5, 1, 2};

/// Weights are frozen; what an adapter has and the second bias are trained.
std::vector<LinearPart> three_parts(at::ScalarType dtype, bool is_packed = false) {
  std::vector<LinearPart> parts(3);
  for (size_t i = 0; i < 3; ++i) {
    LinearPart& p = parts[i];
    const Tensor w = normal({kOuts[i], kIn}, 10 + i).to(dtype);
    if (is_packed) {
      p.w.quantized = std::make_shared<QuantizedWeight>(quantize(w, "nf4", 64, true));
    } else {
      p.w.dense = w;
    }
    if (i == 1) p.bias = normal({kOuts[i]}, 20).to(dtype).requires_grad_();
    if (kRanks[i] == 0) continue;
    p.lora.a = normal({kRanks[i], kIn}, 30 + i).to(at::kFloat).requires_grad_();
    p.lora.b = normal({kOuts[i], kRanks[i]}, 40 + i).to(at::kFloat).requires_grad_();
    p.lora.scale = kScales[i];
  }
  return parts;
}

std::shared_ptr<LinearBorder> border_of(std::vector<LinearPart>& parts, at::ScalarType dtype) {
  std::vector<Tensor*> weights;
  for (LinearPart& p : parts) weights.push_back(&p.w.dense);
  return std::make_shared<LinearBorder>(parts, weights, dtype);
}

std::vector<Tensor> output_gradients(at::ScalarType dtype) {
  std::vector<Tensor> dys;
  for (size_t i = 0; i < 3; ++i) dys.push_back(normal({kRows, kOuts[i]}, 50 + i).to(dtype));
  return dys;
}

/// Outputs, the gradient of x, and those of the inputs that want one.
std::vector<Tensor> through_group(const std::vector<LinearPart>& parts, const Tensor& x,
                                  const std::shared_ptr<LinearBorder>& border) {
  LinearGroup group(parts, border);
  EXPECT_EQ(group.spare(), border ? 6 : 0);
  std::vector<bool> needs;
  for (const Tensor& t : group.inputs()) needs.push_back(t.defined() && t.requires_grad());
  std::vector<Tensor> all;
  for (const Tensor& y : group.forward(x, needs, 0)) all.push_back(y.contiguous());
  EXPECT_TRUE(group.reads_input());
  all.push_back(group.input_gradient(output_gradients(x.scalar_type()), true));
  for (const Tensor& g : group.gradients(x))
    if (g.defined()) all.push_back(g.contiguous());
  return all;
}

/// The same of the three layers one by one, by the plain twin's autograd.
std::vector<Tensor> one_by_one(const std::vector<LinearPart>& parts, const Tensor& x) {
  const PlainTwins plain;
  std::vector<Tensor> outputs, gradients;
  const Tensor leaf = x.detach().clone().requires_grad_();
  const auto dys = output_gradients(x.scalar_type());
  for (size_t i = 0; i < 3; ++i) {
    const LinearPart& p = parts[i];
    const Tensor y = linear(leaf, p);
    run_backward(y, dys[i]);
    outputs.push_back(y.detach());
    for (const Tensor& t : {p.bias, p.lora.a, p.lora.b}) {
      if (!t.defined()) continue;
      gradients.push_back(t.grad().clone());
      Tensor(t).mutable_grad() = Tensor();
    }
  }
  outputs.push_back(leaf.grad());
  outputs.insert(outputs.end(), gradients.begin(), gradients.end());
  return outputs;
}

std::vector<LinearPart> wider(const std::vector<LinearPart>& parts) {
  std::vector<LinearPart> wide = parts;
  for (LinearPart& p : wide) {
    p.w = {p.w.in(at::kDouble), nullptr};
    for (Tensor* t : {&p.bias, &p.lora.a, &p.lora.b})
      if (t->defined()) *t = t->detach().to(at::kDouble).requires_grad_();
  }
  return wide;
}

class LinearGroups : public testing::TestWithParam<at::ScalarType> {};

TEST_P(LinearGroups, AreTheirLayers) {
  const at::ScalarType dtype = GetParam();
  const Tensor x = normal({kRows, kIn}, 1).to(dtype);
  for (const bool is_packed : {false, true})
    for (const bool has_border : {false, true}) {
      SCOPED_TRACE(testing::Message() << "packed " << is_packed << ", border " << has_border);
      auto parts = three_parts(dtype, is_packed);
      const auto exact = one_by_one(wider(parts), x.to(at::kDouble)), plain = one_by_one(parts, x);
      const auto border = has_border ? border_of(parts, dtype) : nullptr;
      expect_as_exact(through_group(parts, x, border), plain, exact, 4);
    }
}

TEST_P(LinearGroups, BorderFollowsTheAdapters) {
  const at::ScalarType dtype = GetParam();
  const Tensor x = normal({kRows, kIn}, 1).to(dtype);
  auto parts = three_parts(dtype);
  const auto border = border_of(parts, dtype);
  const auto before = through_group(parts, x, border);
  {
    const at::NoGradGuard guard;
    parts[0].lora.b.mul_(2);  // counts in the tensor's version
  }
  const auto after = through_group(parts, x, border);
  EXPECT_FALSE(same_bits(after[0], before[0]));
  EXPECT_TRUE(same_bits(after[2], before[2]));
  static_cast<float*>(parts[2].lora.b.data_ptr())[0] += 1;  // an update by bare pointers
  for (LinearPart& p : parts) ++p.lora.num_updates;
  EXPECT_FALSE(same_bits(through_group(parts, x, border)[2], before[2]));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, LinearGroups, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& c) { return std::string(toString(c.param)); });

/// Two layers whose sizes eight bits take.
std::vector<LinearPart> two_wide_parts() {
  std::vector<LinearPart> parts(2);
  for (size_t i = 0; i < 2; ++i) {
    LinearPart& p = parts[i];
    const int64_t out = i == 0 ? 32 : 48;
    p.w.dense = normal({out, kIn}, 60 + i).to(at::kBFloat16);
    p.lora.a = normal({4, kIn}, 70 + i).to(at::kFloat).requires_grad_();
    p.lora.b = normal({out, 4}, 80 + i).to(at::kFloat).requires_grad_();
    p.lora.scale = 0.25 * static_cast<double>(i + 1);
  }
  return parts;
}

Tensor value_of(const Float8Rows& x) {
  return x.codes.to(at::kDouble).mul(x.scales);
}
double distance(const Tensor& a, const Tensor& b) {
  return a.to(at::kDouble).sub(b).norm().item().toDouble() / b.norm().item().toDouble();
}

TEST(LinearBorder, LeavesAloneWhatItCannotTake) {
  auto parts = three_parts(at::kFloat);
  const auto border = border_of(parts, at::kFloat);
  EXPECT_TRUE(border->takes(parts));
  auto dropped = parts, trained = parts, dora = parts;
  dropped[0].lora.dropout = 0.1;
  trained[1].w.dense = parts[1].w.dense.clone().requires_grad_();
  dora[2].magnitude = normal({kOuts[2]}, 1);
  for (const auto& other : {dropped, trained, dora}) EXPECT_FALSE(border->takes(other));
  auto odd = two_wide_parts();
  odd[0].w.dense = normal({33, kIn}, 1).to(at::kBFloat16);
  EXPECT_FALSE(LinearBorder::can_hold_float8(odd));
}

TEST(LinearBorder, MultipliesInFloat8) {
  auto parts = two_wide_parts();
  ASSERT_TRUE(LinearBorder::can_hold_float8(parts));
  const Tensor w = ops::cat({parts[0].w.dense, parts[1].w.dense}).to(at::kDouble);
  const auto border = LinearBorder::in_float8(parts, at::kBFloat16);
  for (size_t i = 0; i < 2; ++i)
    parts[i].w = {Tensor(),
                  std::make_shared<QuantizedWeight>(quantized_rows(
                      border->rows(), border->first_out(i), border->out_of(i), at::kBFloat16))};
  ASSERT_TRUE(border->takes(parts));
  const Tensor x = normal({kRows, kIn}, 1).to(at::kBFloat16);
  std::vector<Tensor> dys;
  for (size_t i = 0; i < 2; ++i)
    dys.push_back(normal({kRows, border->out_of(i)}, 90 + i).to(at::kBFloat16));
  LinearGroup group(parts, border);
  EXPECT_EQ(group.spare(), 0);
  EXPECT_TRUE(group.is_joined());
  std::vector<bool> needs;
  for (const Tensor& t : group.inputs()) needs.push_back(t.defined() && t.requires_grad());
  const Tensor y = ops::cat(group.forward(x, needs, 0), 1), dx = group.input_gradient(dys, true);
  const auto grads = group.gradients(x);
  // The same from the codes in float64, and from what they stand for.
  const at::NoGradGuard guard;
  const Tensor dy = ops::cat(dys, 1).to(at::kDouble), wide = x.to(at::kDouble);
  Tensor lora_y = ops::zeros(y.sizes(), at::kDouble), lora_dx = ops::zeros(x.sizes(), at::kDouble);
  for (size_t i = 0; i < 2; ++i) {
    const Tensor a = parts[i].lora.a.to(at::kDouble),
                 b = parts[i].lora.b.to(at::kDouble).mul(parts[i].lora.scale),
                 of = dy.narrow(1, border->first_out(i), border->out_of(i));
    lora_y.narrow(1, border->first_out(i), border->out_of(i)).copy_(wide.mm(a.t()).mm(b.t()));
    lora_dx.add_(of.mm(b).mm(a));
    const Tensor* grad = &grads[i * LinearGroup::kInputs];
    EXPECT_LT(distance(grad[LinearGroup::kA], of.mm(b).t().mm(wide)), 0.01);
    EXPECT_LT(distance(grad[LinearGroup::kB], of.t().mm(wide.mm(a.t())).mul(parts[i].lora.scale)),
              0.01);
  }
  const Tensor rounded_dy = value_of(to_float8(ops::cat(dys, 1)));
  EXPECT_LT(distance(y, value_of(to_float8(x)).mm(value_of(border->rows()).t()).add(lora_y)), 0.01);
  EXPECT_LT(distance(dx, rounded_dy.mm(value_of(border->columns()).t()).add(lora_dx)), 0.01);
  EXPECT_LT(distance(y, wide.mm(w.t()).add(lora_y)), 0.06);
  EXPECT_LT(distance(dx, dy.mm(w).add(lora_dx)), 0.06);
  // Whoever does not go this way gets the same weights.
  EXPECT_LT(distance(parts[1].w.in(at::kFloat), value_of(border->rows()).narrow(0, 32, 48)), 0.005);
}

TEST(LinearBorder, CudaKernelsOfFloat8AsThePlainTwins) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  const at::Device device(at::kCUDA, 0);
  if (!has_float8(device)) GTEST_SKIP() << "the card does not multiply in eight bits";
  const Tensor x = normal({33, 4096}, 1).to(at::kBFloat16),
               w = normal({48, 4096}, 2).to(at::kBFloat16);
  const Float8Rows plain_x = to_float8(x), plain_w = to_float8(w),
                   on_card = to_float8(x.to(device));
  EXPECT_TRUE(same_bits(on_card.codes.cpu(), plain_x.codes));
  EXPECT_TRUE(same_bits(on_card.scales.cpu(), plain_x.scales));
  EXPECT_LT(distance(multiply_float8(on_card, to_float8(w.to(device))).cpu(),
                     value_of(plain_x).mm(value_of(plain_w).t())),
            0.01);
}

TEST(WithSpare, TakesTheMemoryThatHasTheRoomAndCopiesElse) {
  const Tensor wide = normal({4, 10}, 1), left = wide.narrow(1, 0, 3), right = wide.narrow(1, 3, 5);
  const Tensor whole = with_spare({left, right}, 2);
  EXPECT_TRUE(whole.is_alias_of(wide));
  EXPECT_TRUE(same_bits(whole.contiguous(), wide));
  for (const auto& columns : {std::vector<Tensor>{left}, {right, left}, {wide}}) {
    const Tensor copy = with_spare(columns, 2);
    EXPECT_FALSE(copy.is_alias_of(wide));
    EXPECT_TRUE(
        same_bits(copy.narrow(1, 0, columns[0].size(1)).contiguous(), columns[0].contiguous()));
  }
}

}  // namespace
}  // namespace ft
