// Layers that share an input: as one group, with and without a border, against each layer alone.
#include "kernels/linear_group.h"

#include "kernels/compare.h"
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

TEST(LinearBorder, LeavesAloneWhatItCannotTake) {
  auto parts = three_parts(at::kFloat);
  const auto border = border_of(parts, at::kFloat);
  EXPECT_TRUE(border->takes(parts));
  auto dropped = parts, trained = parts, dora = parts;
  dropped[0].lora.dropout = 0.1;
  trained[1].w.dense = parts[1].w.dense.clone().requires_grad_();
  dora[2].magnitude = normal({kOuts[2]}, 1);
  for (const auto& other : {dropped, trained, dora}) EXPECT_FALSE(border->takes(other));
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
