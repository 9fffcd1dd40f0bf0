// FlashAttention-2 (Dao 2023) as built into LibTorch for CUDA: all documents in one call, by their
// cumulative lengths; grouped heads as they are; a window by its left bound. The backward pass is
// called by hand: what is kept is q, k, v, the output and the log of the sums.
#include <ATen/ops/_flash_attention_backward_ops.h>
#include <ATen/ops/_flash_attention_forward_ops.h>

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/autograd.h"

namespace ft {
namespace {

struct Call {
  Tensor lengths;  ///< [S+1] int32 on the device
  int64_t longest = 0;
  double scale;
  std::optional<c10::SymInt> left, right;  ///< keys seen before a query and after it

  Call(const Documents& documents, const AttentionSettings& settings, at::Device device)
      : scale(settings.scale) {
    const auto& bounds = documents.bounds;
    for (size_t s = 0; s + 1 < bounds.size(); ++s)
      longest = std::max(longest, bounds[s + 1] - bounds[s]);
    lengths = ops::from_vector(bounds).to(at::kInt).to(device);
    if (settings.window != 0) left = settings.window - 1, right = 0;
  }
};

Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, const Call& call, Saved& saved) {
  auto [out, lse, rng_state, unused, debug_mask] = at::_ops::_flash_attention_forward::call(
      q, k, v, call.lengths, call.lengths, call.longest, call.longest, /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, call.scale, call.left, call.right,
      std::nullopt, std::nullopt);
  saved.tensors = {q, k, v, out, lse, rng_state, unused};
  return out;
}

std::vector<Tensor> backward(const Tensor& grad, const Saved& saved, const Call& call) {
  const auto& t = saved.tensors;
  auto [dq, dk, dv] = at::_ops::_flash_attention_backward::call(
      grad.contiguous(), t[0], t[1], t[2], t[3], t[4], call.lengths, call.lengths, call.longest,
      call.longest, /*dropout_p=*/0.0, /*is_causal=*/true, t[5], t[6], call.scale, call.left,
      call.right);
  return {dq, dk, dv};
}

}  // namespace

Tensor flash_attention_cuda(const Tensor& q, const Tensor& k, const Tensor& v,
                            const Documents& documents, const AttentionSettings& settings) {
  const auto call = std::make_shared<const Call>(documents, settings, q.device());
  return apply(
      {q, k, v}, [&](Saved& saved) { return forward(q, k, v, *call, saved); },
      [call](const Tensor& grad, const Saved& saved) { return backward(grad, saved, *call); });
}

}  // namespace ft
