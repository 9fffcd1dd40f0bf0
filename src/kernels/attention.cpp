// Attention over packed documents: every document attends to itself only, causally. No mask is ever
// made. CPU: LibTorch's flash attention (Dao 2023), document by document, forward and backward
// called by hand so that the outputs of all documents land in one buffer. It takes grouped heads as
// they are.
#include "kernels/autograd.h"
#include "kernels/kernels.h"
#include "kernels/mode.h"

namespace ft {
namespace {

/// [N, heads, D] rows [begin, end) as [1, heads, T, D].
Tensor document(const Tensor& x, int64_t begin, int64_t end) {
  return x.narrow(0, begin, end - begin).transpose(0, 1).unsqueeze(0);
}

Tensor reference(const Tensor& q, const Tensor& k, const Tensor& v, const Documents& documents,
                 double scale) {
  std::vector<Tensor> outputs;
  const int64_t groups = q.size(1) / k.size(1);
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t begin = documents.bounds[s], end = documents.bounds[s + 1], T = end - begin;
    const Tensor qs = document(q, begin, end).to(wide_dtype(q));
    const Tensor ks = document(k, begin, end).to(wide_dtype(k)).repeat_interleave(groups, 1);
    const Tensor vs = document(v, begin, end).to(wide_dtype(v)).repeat_interleave(groups, 1);
    const Tensor at_row = ops::arange(T, at::kLong, q.device()).unsqueeze(1);
    const Tensor future = ops::arange(T, at::kLong, q.device()).unsqueeze(0).gt(at_row);
    const Tensor scores = qs.matmul(ks.transpose(-1, -2)).mul(scale).masked_fill(future, -INFINITY);
    outputs.push_back(scores.softmax(-1).matmul(vs).squeeze(0).transpose(0, 1));
  }
  return ops::cat(outputs).to(q.scalar_type()).contiguous();
}

Tensor forward_flash(const Tensor& q, const Tensor& k, const Tensor& v, const Documents& documents,
                     double scale, Saved& saved) {
  Tensor out = ops::empty_like(q);
  saved.tensors = {q, k, v, out};
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t begin = documents.bounds[s], end = documents.bounds[s + 1];
    auto [y, lse] = at::_ops::_scaled_dot_product_flash_attention_for_cpu::call(
        document(q, begin, end), document(k, begin, end), document(v, begin, end), 0.0, true,
        std::nullopt, scale);
    document(out, begin, end).copy_(y);
    saved.tensors.push_back(lse);
  }
  return out;
}

std::vector<Tensor> backward_flash(const Tensor& grad, const Saved& saved,
                                   const Documents& documents, double scale) {
  const Tensor &q = saved.tensors[0], &k = saved.tensors[1], &v = saved.tensors[2],
               &out = saved.tensors[3];
  Tensor dq = ops::empty_like(q), dk = ops::empty_like(k), dv = ops::empty_like(v);
  const Tensor dy = grad.contiguous();
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t begin = documents.bounds[s], end = documents.bounds[s + 1];
    auto [gq, gk, gv] = at::_ops::_scaled_dot_product_flash_attention_for_cpu_backward::call(
        document(dy, begin, end), document(q, begin, end), document(k, begin, end),
        document(v, begin, end), document(out, begin, end), saved.tensors[4 + s], 0.0, true,
        std::nullopt, scale);
    document(dq, begin, end).copy_(gq);
    document(dk, begin, end).copy_(gk);
    document(dv, begin, end).copy_(gv);
  }
  return {dq, dk, dv};
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Documents& documents,
                 double scale) {
  const int64_t N = q.size(0), D = q.size(2);
  check_shape(k, "attention keys", {N, -1, D});
  check_shape(v, "attention values", {N, k.size(1), D});
  if (!use_cpu_loops(q)) return reference(q, k, v, documents, scale);
  return apply(
      {q, k, v}, [&](Saved& saved) { return forward_flash(q, k, v, documents, scale, saved); },
      [documents, scale](const Tensor& grad, const Saved& saved) {
        return backward_flash(grad, saved, documents, scale);
      });
}

}  // namespace ft
