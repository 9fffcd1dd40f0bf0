// Products: every layout of the operands, sizes on both sides of a tile and of a pass, sums of
// several; on the matrix unit and by LibTorch.
#include "kernels/matrix_unit.h"

#include "finetune/run.h"
#include "kernels/compare.h"
#include "kernels/device.h"
#include "kernels/kernels.h"

namespace ft {
namespace {

struct Sizes {
  int64_t rows, inner, cols;
};
constexpr Sizes kSizes[] = {{1, 1, 1},     {1, 577, 30},  {2, 64, 9},    {3, 3000, 8},
                            {4, 100, 21},  {16, 32, 16},  {17, 33, 15},  {31, 64, 32},
                            {32, 100, 33}, {70, 45, 130}, {5, 2048, 40}, {40, 2049, 70},
                            {33, 6000, 16}};

Tensor matrix(int64_t rows, int64_t cols, uint64_t seed) {
  return normal({rows, cols}, seed).to(at::kBFloat16);
}
Tensor exact(const Tensor& a, const Tensor& b) {
  return a.to(at::kDouble).mm(b.to(at::kDouble));
}
/// Of sums of products of standard normal numbers in float32.
double allowed(int64_t inner) {
  return 1e-6 * static_cast<double>(inner + 10);
}

void check_all_layouts() {
  for (const auto& [M, K, N] : kSizes) {
    SCOPED_TRACE(testing::Message() << M << " x " << K << " x " << N);
    const Tensor a = matrix(M, K, 1), b = matrix(K, N, 2);
    const Tensor at = a.t().contiguous(), bt = b.t().contiguous();
    const Tensor want = exact(a, b);
    for (const bool left : {false, true})
      for (const bool right : {false, true}) {
        const Packed packed = left ? Packed(at, true) : Packed(a);
        const Right operand{right ? bt : b, right};
        EXPECT_LE(worst_error(multiply({{packed, operand}}, {}, at::kFloat), want), allowed(K));
        const Tensor rounded = multiply({{packed, operand}});
        ASSERT_EQ(rounded.scalar_type(), at::kBFloat16);
        EXPECT_LE(worst_error(rounded, want),
                  allowed(K) + want.abs().max().item().toDouble() / 256);
      }
  }
}

TEST(Multiply, EveryLayout) {
  if (!has_matrix_unit()) GTEST_SKIP() << "no matrix unit";
  check_all_layouts();
}

TEST(Multiply, SumsOfSeveralWithBiasAndScale) {
  if (!has_matrix_unit()) GTEST_SKIP() << "no matrix unit";
  const Tensor a = matrix(37, 3000, 1), b = matrix(50, 3000, 2), c = matrix(37, 9, 3),
               bias = matrix(1, 50, 4).view({50});
  const Tensor d = normal({9, 50}, 5).to(at::kFloat);
  const Tensor want =
      exact(a, b.t()).add(exact(c, d.mul(0.7).to(at::kBFloat16))).add(bias.to(at::kDouble));
  EXPECT_LE(
      worst_error(
          multiply({{Packed(a), {b, true}}, {Packed(c), {d, false, 0.7}}}, bias, at::kFloat), want),
      allowed(3000));
}

/// An update far below the last place of the product is not lost in every element: the sum is
/// rounded once. LibTorch rounds the product first.
TEST(Multiply, SmallTermIsNotRoundedAway) {
  if (!has_matrix_unit()) GTEST_SKIP() << "no matrix unit";
  const Tensor a = matrix(64, 256, 1), b = matrix(256, 512, 2);
  const Tensor one = ops::full({64, 1}, 1, at::kBFloat16, at::kCPU),
               small = ops::full({1, 512}, 0.01, at::kBFloat16, at::kCPU);
  const auto shift = [&] {
    const Tensor with = multiply({{Packed(a), {b}}, {Packed(one), {small}}});
    const Tensor without = multiply({{Packed(a), {b}}});
    return with.to(at::kDouble).sub(without.to(at::kDouble)).mean().item().toDouble();
  };
  EXPECT_NEAR(shift(), 0.01, 0.002);  // elements are near 16, their last place 0.06 to 0.12
}

TEST(Multiply, ThreadsDoNotChangeBits) {
  if (!has_matrix_unit()) GTEST_SKIP() << "no matrix unit";
  const Tensor a = matrix(100, 2500, 1), b = matrix(300, 2500, 2);
  const int64_t before = num_threads();
  set_threads(1);
  const Tensor one = multiply({{Packed(a), {b, true}}});
  set_threads(3);
  const Tensor three = multiply({{Packed(a), {b, true}}});
  set_threads(static_cast<int>(before));
  EXPECT_TRUE(same_bits(one, three));
}

/// What is not a number is neither lost nor spread over documents that it does not belong to.
TEST(UnitAttention, KeepsNotANumber) {
  if (!has_matrix_unit()) GTEST_SKIP() << "no matrix unit";
  const Documents documents{{0, 40, 100}};
  for (const int which : {0, 1, 2}) {
    std::vector<Tensor> in;
    for (int i = 0; i < 3; ++i)
      in.push_back(normal({100, 2, 64}, static_cast<uint64_t>(i)).to(at::kBFloat16));
    in[static_cast<size_t>(which)].narrow(0, 50, 1).fill_(NAN);
    const Tensor y = attention(in[0], in[1], in[2], documents, {0.125}).isnan();
    EXPECT_TRUE(y.narrow(0, 50, 1).all().item().toBool()) << which;
    EXPECT_FALSE(y.narrow(0, 0, 40).any().item().toBool()) << which;
  }
}

TEST(Multiply, WithoutMatrixUnit) {
  set_kernel_mode(KernelMode::kNoMatrixUnit);
  const Tensor a = matrix(20, 30, 1), b = matrix(30, 10, 2), c = matrix(10, 30, 3);
  const Tensor d = normal({30, 10}, 5).to(at::kFloat);
  const Tensor sum = multiply(
      {{Packed(a), {b}}, {Packed(a), {c, true}}, {Packed(a), {d, false, 2}}}, {}, at::kFloat);
  const Tensor want = exact(a, b).add(exact(a, c.t())).add(exact(a, d.mul(2).to(at::kBFloat16)));
  EXPECT_LE(worst_error(sum, want), want.abs().max().item().toDouble() / 64);
  set_kernel_mode(KernelMode::kAuto);
}

}  // namespace
}  // namespace ft
