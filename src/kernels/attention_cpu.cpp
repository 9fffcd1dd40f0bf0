// LibTorch's flash attention for the CPU (Dao 2023), stretch by stretch, forward and backward
// called by hand so that the outputs of all documents land in one buffer. It takes grouped heads as
// they are. A document is one causal stretch; one longer than the window is its first `window`
// tokens, and then blocks of queries with the keys that they see and a mask of [block, window +
// block - 1], the same one for all blocks.
//
// In low precision LibTorch's products are compiled for each shape and kept for good, about a
// megabyte for a new length of document. So stretches are then rounded up to a multiple of 64
// tokens: what follows in the batch takes part as keys that no real query sees and as queries
// whose results are dropped and whose gradients are zero.
#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/autograd.h"

namespace ft {
namespace {

/// Queries [begin, end) and their keys [first, end); causal as they stand, or with the mask. The
/// call is made with `end` moved to `padded`.
struct Stretch {
  int64_t begin, end, first;
  bool is_masked;
  int64_t padded;
};

constexpr int64_t kMultiple = 64;

int64_t padded_end(int64_t begin, int64_t end, bool pads) {
  return pads ? begin + (end - begin + kMultiple - 1) / kMultiple * kMultiple : end;
}

/// Rows [begin, end) of x [N, heads, D] as [1, heads, T, D]; rows from `stop` on are zero.
Tensor padded_view(const Tensor& x, int64_t begin, int64_t end, int64_t stop) {
  if (end <= stop) return document_view(x, begin, end);
  Tensor rows = ops::zeros({end - begin, x.size(1), x.size(2)}, x.scalar_type());
  rows.narrow(0, 0, stop - begin).copy_(x.narrow(0, begin, stop - begin));
  return document_view(rows, 0, end - begin);
}

/// Large enough for the products to run at speed; what is masked is computed in vain.
int64_t block_size(int64_t window) {
  return std::clamp<int64_t>(window / 2, 64, 512);
}

std::vector<Stretch> stretches(const Documents& documents, int64_t window, bool pads) {
  std::vector<Stretch> all;
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t begin = documents.bounds[s], end = documents.bounds[s + 1];
    if (begin == end) continue;
    const int64_t causal = window == 0 ? end : std::min(end, begin + window);
    all.push_back({begin, causal, begin, false, padded_end(begin, causal, pads)});
    for (int64_t at = causal, step = block_size(window); at < end; at += step) {
      const int64_t stop = std::min(at + step, end);
      all.push_back(
          {at, stop, at - window + 1, true, std::min(at + step, padded_end(at, stop, pads))});
    }
  }
  return all;
}

/// 0 where the key is seen, -inf elsewhere; blocks at a document's end take its upper left part.
Tensor block_mask(int64_t window) {
  const int64_t queries = block_size(window), keys = window + queries - 1;
  const Tensor seen = visible_keys(window - 1, queries, 0, keys, window, at::kCPU);
  return ops::zeros({queries, keys}, at::kFloat).masked_fill_(seen.logical_not(), -INFINITY);
}

OptTensor mask_of(const Stretch& s, Tensor& mask, int64_t window) {
  if (!s.is_masked) return std::nullopt;
  if (!mask.defined()) mask = block_mask(window);
  return mask.narrow(0, 0, s.padded - s.begin).narrow(1, 0, s.padded - s.first);
}

Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, const std::vector<Stretch>& parts,
               const AttentionSettings& settings, Saved& saved) {
  const int64_t N = q.size(0);
  Tensor out = ops::empty_like(q), mask;
  saved.tensors = {q, k, v, out};  // and the log-sum-exps
  for (const Stretch& s : parts) {
    auto [y, lse] = at::_ops::_scaled_dot_product_flash_attention_for_cpu::call(
        padded_view(q, s.begin, s.padded, N), padded_view(k, s.first, s.padded, N),
        padded_view(v, s.first, s.padded, N), 0.0, !s.is_masked, mask_of(s, mask, settings.window),
        settings.scale);
    document_view(out, s.begin, s.end).copy_(y.narrow(2, 0, s.end - s.begin));
    saved.tensors.push_back(lse);
  }
  return out;
}

std::vector<Tensor> backward(const Tensor& grad, const Saved& saved,
                             const std::vector<Stretch>& parts, const AttentionSettings& settings) {
  const Tensor &q = saved.tensors[0], &k = saved.tensors[1], &v = saved.tensors[2],
               &out = saved.tensors[3];
  // Keys that several blocks see get a sum, which is made in float32.
  const bool sums =
      std::any_of(parts.begin(), parts.end(), [](const Stretch& s) { return s.is_masked; });
  const int64_t N = q.size(0);
  Tensor dq = ops::empty_like(q), mask;
  Tensor dk = sums ? ops::zeros(k.sizes(), wide_dtype(k)) : ops::empty_like(k);
  Tensor dv = sums ? ops::zeros(v.sizes(), wide_dtype(v)) : ops::empty_like(v);
  const Tensor dy = grad.contiguous();
  for (size_t i = 0; i < parts.size(); ++i) {
    const Stretch& s = parts[i];
    auto [gq, gk, gv] = at::_ops::_scaled_dot_product_flash_attention_for_cpu_backward::call(
        padded_view(dy, s.begin, s.padded, s.end), padded_view(q, s.begin, s.padded, N),
        padded_view(k, s.first, s.padded, N), padded_view(v, s.first, s.padded, N),
        padded_view(out, s.begin, s.padded, N), saved.tensors[4 + i], 0.0, !s.is_masked,
        mask_of(s, mask, settings.window), settings.scale);
    document_view(dq, s.begin, s.end).copy_(gq.narrow(2, 0, s.end - s.begin));
    const auto give = [&](const Tensor& to, const Tensor& g) {
      const Tensor real = g.narrow(2, 0, s.end - s.first);
      sums ? to.add_(real) : to.copy_(real);
    };
    give(document_view(dk, s.first, s.end), gk);
    give(document_view(dv, s.first, s.end), gv);
  }
  return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type())};
}

}  // namespace

OpHalves flash_attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v,
                             const Documents& documents, const AttentionSettings& settings) {
  const auto parts = stretches(documents, settings.window, q.element_size() < 4);
  return {[=](Saved& saved) { return forward(q, k, v, parts, settings, saved); },
          [parts, settings](const Tensor& grad, const Saved& saved) {
            return backward(grad, saved, parts, settings);
          }};
}

}  // namespace ft
