// The call of FlashAttention-2 without a GPU: CPU stand-ins are registered for the two operators,
// which note what they are given. The one for the forward pass computes the plain formula from it,
// the other answers the plain twin's gradients; both must come out as they went in.
#include <torch/library.h>

#include "kernels/attention.h"
#include "kernels/compare.h"

namespace ft {
namespace {

struct Received {
  std::vector<int64_t> lengths;
  int64_t longest = 0;
  std::optional<int64_t> left, right;
  bool is_causal = false;
  double dropout = -1, scale = 0;
  int forwards = 0, backwards = 0;
  std::vector<Tensor> gradients;  ///< what the backward stand-in answers
  Tensor output_gradient;
};
Received received;

Tensor plain(const Tensor& q, const Tensor& k, const Tensor& v) {
  const PlainTwins twins;
  return attention(q, k, v, {received.lengths},
                   {received.scale, received.left ? *received.left + 1 : 0});
}

void receive(const Tensor& lengths, int64_t longest, double dropout, bool is_causal,
             std::optional<double> scale, std::optional<int64_t> left,
             std::optional<int64_t> right) {
  ASSERT_EQ(lengths.scalar_type(), at::kInt);
  ASSERT_TRUE(lengths.is_contiguous());
  received.lengths.assign(static_cast<const int32_t*>(lengths.const_data_ptr()),
                          static_cast<const int32_t*>(lengths.const_data_ptr()) + lengths.numel());
  received.longest = longest;
  received.left = left;
  received.right = right;
  received.is_causal = is_causal;
  received.dropout = dropout;
  received.scale = scale.value_or(0);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& lengths_q,
    const std::optional<Tensor>& lengths_k, int64_t longest_q, int64_t longest_k, double dropout,
    bool is_causal, bool debug_mask, std::optional<double> scale, std::optional<int64_t> left,
    std::optional<int64_t> right, const std::optional<Tensor>& used,
    const std::optional<Tensor>& slopes) {
  EXPECT_TRUE(lengths_q->equal(*lengths_k) && longest_q == longest_k);
  EXPECT_FALSE(debug_mask || used || slopes);
  receive(*lengths_q, longest_q, dropout, is_causal, scale, left, right);
  ++received.forwards;
  const Tensor nothing = ops::zeros({2}, at::kLong);
  return {plain(q, k, v), ops::zeros({q.size(1), q.size(0)}, at::kFloat), nothing, nothing, {}};
}

std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& grad, const Tensor& q, const Tensor&, const Tensor&, const Tensor& out,
    const Tensor& lse, const Tensor& lengths_q, const Tensor&, int64_t longest_q, int64_t,
    double dropout, bool is_causal, const Tensor&, const Tensor&, std::optional<double> scale,
    std::optional<int64_t> left, std::optional<int64_t> right) {
  EXPECT_EQ(out.sizes(), q.sizes());
  EXPECT_EQ(lse.size(1), q.size(0));
  receive(lengths_q, longest_q, dropout, is_causal, scale, left, right);
  ++received.backwards;
  received.output_gradient = grad;
  return {received.gradients[0], received.gradients[1], received.gradients[2]};
}

TORCH_LIBRARY_IMPL(aten, CPU, m) {
  m.impl("_flash_attention_forward", forward);
  m.impl("_flash_attention_backward", backward);
}

void check(int64_t window) {
  const Documents documents{{0, 2, 9, 16}};
  const AttentionSettings settings{0.3, window};
  const std::vector<Tensor> inputs = {normal({16, 4, 8}, 1), normal({16, 2, 8}, 2),
                                      normal({16, 2, 8}, 3)};
  std::optional<PlainTwins> twins(std::in_place);
  const auto wanted = output_and_gradients(
      [&](const std::vector<Tensor>& in) {
        return attention(in[0], in[1], in[2], documents, settings);
      },
      inputs, at::kFloat);
  twins.reset();
  received = {};
  received.gradients.assign(wanted.begin() + 1, wanted.end());
  const auto flash = output_and_gradients(
      [&](const std::vector<Tensor>& in) {
        const OpHalves halves = flash_attention_cuda(in[0], in[1], in[2], documents, settings);
        return apply(in, halves.forward, halves.backward);
      },
      inputs, at::kFloat);
  EXPECT_EQ(received.lengths, documents.bounds);
  EXPECT_EQ(received.longest, 7);
  EXPECT_TRUE(received.is_causal);
  EXPECT_EQ(received.dropout, 0);
  EXPECT_EQ(received.scale, 0.3);
  EXPECT_EQ(received.left, window == 0 ? std::nullopt : std::optional(window - 1));
  EXPECT_EQ(received.right, window == 0 ? std::nullopt : std::optional<int64_t>(0));
  EXPECT_EQ(received.forwards, 1);
  EXPECT_EQ(received.backwards, 1);
  EXPECT_TRUE(same_bits(received.output_gradient, normal({16, 4, 8}, 99).to(at::kFloat)));
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(same_bits(flash[i], wanted[i])) << i;
}

TEST(FlashAttentionCuda, GetsLengthsScaleAndCausality) {
  check(0);
}
TEST(FlashAttentionCuda, WindowIsItsLeftBound) {
  check(3);
}

}  // namespace
}  // namespace ft
