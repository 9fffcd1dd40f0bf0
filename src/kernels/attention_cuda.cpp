// FlashAttention-2 (Dao 2023) as built into LibTorch for CUDA: all documents in one call, by their
// cumulative lengths; grouped heads as they are; a window by its left bound. The backward pass is
// called by hand: what is kept is q, k, v, the output and the log of the sums.
#include <ATen/ops/_flash_attention_backward_ops.h>
#include <ATen/ops/_flash_attention_forward_ops.h>

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/autograd.h"
#include "kernels/ledger.h"

namespace ft {
namespace {

struct Call {
  Tensor lengths;  ///< [S+1] int32 on the device
  int64_t longest = 0;
  double scale;
  std::optional<c10::SymInt> left, right;  ///< keys seen before a query and after it
  double pairs = 0;                        ///< of a query and a key that it sees; for the ledger

  Call(const Documents& documents, const AttentionSettings& settings, const Tensor& q)
      : scale(settings.scale) {
    const auto& bounds = documents.bounds;
    for (size_t s = 0; s + 1 < bounds.size(); ++s) {
      const int64_t T = bounds[s + 1] - bounds[s];
      longest = std::max(longest, T);
      if (!is_noted(q)) continue;
      const auto window =
          static_cast<double>(settings.window == 0 ? T : std::min(settings.window, T));
      pairs += window * (window + 1) / 2 + (static_cast<double>(T) - window) * window;
    }
    lengths = documents.device_bounds.defined()
                  ? documents.device_bounds
                  : ops::from_vector(bounds).to(at::kInt).to(q.device());
    if (settings.window != 0) left = settings.window - 1, right = 0;
  }
  /// Of the scores and of the sums over the values.
  double flops(const Tensor& q) const {
    return 4 * pairs * static_cast<double>(q.size(1) * q.size(2));
  }
};

Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, const Call& call, Saved& saved) {
  if (is_noted(q)) {
    const Tensor out = ops::empty(q.sizes(), q.scalar_type(), q.device()),
                 lse = ops::empty({q.size(1), q.size(0)}, at::kFloat, q.device());
    note_launch("flash_attention", LaunchKind::kAttentionForward, call.flops(q),
                {q, k, v, out, lse});
    saved.tensors = {q, k, v, out, lse};
    return out;
  }
  auto [out, lse, rng_state, unused, debug_mask] = at::_ops::_flash_attention_forward::call(
      q, k, v, call.lengths, call.lengths, call.longest, call.longest, /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, call.scale, call.left, call.right,
      std::nullopt, std::nullopt);
  saved.tensors = {q, k, v, out, lse, rng_state, unused};
  return out;
}

/// What LibTorch's backward pass launches: rows of dO O summed, the pass itself (five products for
/// the forward pass's two), the float32 sum of dQ cast; where heads share keys, also dK and dV by
/// query head, added up.
std::vector<Tensor> note_backward(const Tensor& dy, const std::vector<Tensor>& t,
                                  const Call& call) {
  const Tensor &q = t[0], &k = t[1], &v = t[2];
  const auto fresh = [&](const Tensor& like, at::ScalarType dtype) {
    return ops::empty(like.sizes(), dtype, like.device());
  };
  const Tensor sum = fresh(q, at::kFloat), dq = fresh(q, q.scalar_type()),
               dk = fresh(k, k.scalar_type()), dv = fresh(v, v.scalar_type());
  const bool shares = q.size(1) != k.size(1);
  const Tensor wide_dk = shares ? dq : dk, wide_dv = shares ? dq : dv;
  note_launch("flash_attention dot", LaunchKind::kElements, 0, {dy, t[3], t[4], sum});
  note_launch("flash_attention backward", LaunchKind::kAttentionBackward, 2.5 * call.flops(q),
              {q, k, v, dy, t[4], sum, sum, wide_dk, wide_dv});
  note_launch("flash_attention cast", LaunchKind::kElements, 0, {sum, dq});
  if (shares)
    note_launch("flash_attention sum", LaunchKind::kElements, 0, {wide_dk, dk, wide_dv, dv}, 2);
  return {dq, dk, dv};
}

std::vector<Tensor> backward(const Tensor& grad, const Saved& saved, const Call& call) {
  const auto& t = saved.tensors;
  const Tensor dy = grad.contiguous();
  if (is_noted(dy)) return note_backward(dy, t, call);
  auto [dq, dk, dv] = at::_ops::_flash_attention_backward::call(
      dy, t[0], t[1], t[2], t[3], t[4], call.lengths, call.lengths, call.longest, call.longest,
      /*dropout_p=*/0.0, /*is_causal=*/true, t[5], t[6], call.scale, call.left, call.right);
  return {dq, dk, dv};
}

}  // namespace

OpHalves flash_attention_cuda(const Tensor& q, const Tensor& k, const Tensor& v,
                              const Documents& documents, const AttentionSettings& settings) {
  const auto call = std::make_shared<const Call>(documents, settings, q);
  return {[=](Saved& saved) { return forward(q, k, v, *call, saved); },
          [call](const Tensor& grad, const Saved& saved) { return backward(grad, saved, *call); }};
}

}  // namespace ft
