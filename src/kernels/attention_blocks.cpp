// Attention in blocks of queries, with plain products. Memory is one block's scores, [H, block,
// keys it sees]; the backward pass makes them again (Chen et al. 2016) from q, k, v. With P the
// probabilities, O the output and S the scores before the soft cap,
//   dV = P^T dO,   dP = dO V^T,   d(capped) = P (dP - rowsum(dO O)),   dS = d(capped) (1 - tanh^2),
// and dQ = scale dS K, dK = scale dS^T Q. The query heads of a key head lie together: [K, G T, D].
#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/autograd.h"

namespace ft {
namespace {

constexpr int64_t kBlock = 256;  // queries

/// One block: queries [begin, end) of the batch and the keys [first, end) that they see.
struct Block {
  int64_t begin, end, first, start;  ///< start: of the document
  int64_t num_queries() const { return end - begin; }
  int64_t num_keys() const { return end - first; }
};

template <typename Body>
void for_blocks(const Documents& documents, int64_t window, const Body& body) {
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t start = documents.bounds[s], stop = documents.bounds[s + 1];
    for (int64_t begin = start; begin < stop; begin += kBlock) {
      const int64_t first = window == 0 ? start : std::max(start, begin - window + 1);
      body(Block{begin, std::min(begin + kBlock, stop), first, start});
    }
  }
}

/// Rows [begin, end) of x [N, H, D] as float32 [K, G T, D].
Tensor grouped(const Tensor& x, int64_t begin, int64_t end, int64_t key_heads) {
  const int64_t T = end - begin, D = x.size(2);
  return x.narrow(0, begin, T).transpose(0, 1).to(wide_dtype(x)).reshape({key_heads, -1, D});
}
/// The way back: [K, G T, D] -> [T, H, D].
Tensor ungrouped(const Tensor& x, int64_t T) {
  return x.reshape({-1, T, x.size(2)}).transpose(0, 1);
}

/// A block's operands and probabilities.
struct Probabilities {
  Tensor q, k;    ///< [K, G T, D], [K, L, D]
  Tensor p;       ///< [K, G T, L]
  Tensor capped;  ///< the scores after the soft cap, where there is one
};

Probabilities probabilities(const Tensor& q, const Tensor& k, const Block& b,
                            const AttentionSettings& settings) {
  const int64_t K = k.size(1), L = b.num_keys();
  Probabilities r;
  r.q = grouped(q, b.begin, b.end, K);
  r.k = grouped(k, b.first, b.end, K);
  Tensor scores = soft_cap(r.q.bmm(r.k.transpose(1, 2)).mul_(settings.scale), settings.softcap);
  if (settings.softcap != 0) r.capped = scores.clone();
  const Tensor hidden = visible_keys(b.begin - b.start, b.num_queries(), b.first - b.start, L,
                                     settings.window, q.device())
                            .logical_not();
  scores.view({-1, b.num_queries(), L}).masked_fill_(hidden, -INFINITY);
  r.p = scores.softmax(-1);
  return r;
}

Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, const Documents& documents,
               const AttentionSettings& settings) {
  Tensor out = ops::empty_like(q);
  for_blocks(documents, settings.window, [&](const Block& b) {
    const Tensor p = probabilities(q, k, b, settings).p;
    const Tensor y = p.bmm(grouped(v, b.first, b.end, k.size(1)));
    out.narrow(0, b.begin, b.num_queries()).copy_(ungrouped(y, b.num_queries()));
  });
  return out;
}

std::vector<Tensor> backward(const Tensor& grad, const Saved& saved, const Documents& documents,
                             const AttentionSettings& settings) {
  const Tensor &q = saved.tensors[0], &k = saved.tensors[1], &v = saved.tensors[2],
               &out = saved.tensors[3];
  const int64_t K = k.size(1);
  const auto wide = wide_dtype(q);
  Tensor dq = ops::empty_like(q);
  Tensor dk = ops::zeros(k.sizes(), wide, k.device()), dv = ops::zeros(v.sizes(), wide, v.device());
  for_blocks(documents, settings.window, [&](const Block& b) {
    const int64_t T = b.num_queries(), L = b.num_keys();
    const Probabilities r = probabilities(q, k, b, settings);
    const Tensor dy = grouped(grad, b.begin, b.end, K), y = grouped(out, b.begin, b.end, K);
    const Tensor dp = dy.bmm(grouped(v, b.first, b.end, K).transpose(1, 2));
    Tensor ds = dp.sub(dy.mul(y).sum(-1, /*keepdim=*/true)).mul_(r.p);
    if (r.capped.defined()) ds.mul_(r.capped.div(settings.softcap).square_().neg_().add_(1));
    ds.mul_(settings.scale);
    dq.narrow(0, b.begin, T).copy_(ungrouped(ds.bmm(r.k), T));
    dk.narrow(0, b.first, L).add_(ds.transpose(1, 2).bmm(r.q).transpose(0, 1));
    dv.narrow(0, b.first, L).add_(r.p.transpose(1, 2).bmm(dy).transpose(0, 1));
  });
  return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type())};
}

}  // namespace

OpHalves block_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                         const Documents& documents, const AttentionSettings& settings) {
  return {[=](Saved& saved) {
            const Tensor out = forward(q, k, v, documents, settings);
            saved.tensors = {q, k, v, out};
            return out;
          },
          [documents, settings](const Tensor& grad, const Saved& saved) {
            return backward(grad, saved, documents, settings);
          }};
}

}  // namespace ft
