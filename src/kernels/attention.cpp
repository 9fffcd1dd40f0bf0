// Attention over packed documents: every document attends to itself only, causally, perhaps through
// a window. Here are the choice of the way and the plain twin.
#include "kernels/attention.h"

#include <cmath>

#include "kernels/matrix_unit.h"
#include "kernels/mode.h"

namespace ft {
namespace {

Tensor reference(const Tensor& q, const Tensor& k, const Tensor& v, const Documents& documents,
                 const AttentionSettings& settings) {
  std::vector<Tensor> outputs;
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t begin = documents.bounds[s], T = documents.bounds[s + 1] - begin;
    outputs.push_back(
        attend_plainly(q.narrow(0, begin, T), k.narrow(0, begin, T), v.narrow(0, begin, T),
                       visible_keys(0, T, 0, T, settings.window, q.device()), settings));
  }
  return ops::cat(outputs);
}

}  // namespace

Tensor visible_keys(int64_t first_query, int64_t num_queries, int64_t first_key, int64_t num_keys,
                    int64_t window, at::Device device) {
  const Tensor query = ops::arange(num_queries, at::kLong, device).add(first_query).unsqueeze(1);
  const Tensor key = ops::arange(num_keys, at::kLong, device).add(first_key).unsqueeze(0);
  const Tensor past = key.le(query);
  return window == 0 ? past : past.logical_and(key.gt(query.sub(window)));
}

Tensor attend_plainly(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& visible,
                      const AttentionSettings& settings) {
  const auto wide = wide_dtype(q);
  const int64_t groups = q.size(1) / k.size(1);
  const auto heads_first = [&](const Tensor& x) { return x.to(wide).transpose(0, 1); };
  const Tensor ks = heads_first(k).repeat_interleave(groups, 0);  // [H, L, D]
  const Tensor vs = heads_first(v).repeat_interleave(groups, 0);
  const Tensor scores = heads_first(q).matmul(ks.transpose(-1, -2)).mul(settings.scale);
  const Tensor p = soft_cap(scores, settings.softcap)
                       .masked_fill(visible.logical_not(), -INFINITY)
                       .softmax(-1);  // [H, T, L]
  return p.matmul(vs).transpose(0, 1).to(q.scalar_type()).contiguous();
}

std::optional<OpHalves> attention_halves(const Tensor& q, const Tensor& k, const Tensor& v,
                                         const Documents& documents,
                                         const AttentionSettings& settings) {
  const int64_t N = q.size(0), D = q.size(2);
  check_shape(k, "attention keys", {N, -1, D});
  check_shape(v, "attention values", {N, k.size(1), D});
  if (use_matrix_unit(q) && use_matrix_unit(k) && use_matrix_unit(v))
    return unit_attention(q, k, v, documents, settings);
  if (settings.softcap == 0 && use_cpu_loops(q))
    return flash_attention_cpu(q, k, v, documents, settings);
  const bool flash_takes = is_on_cuda(q) && q.scalar_type() != at::kFloat && D % 8 == 0 && D <= 256;
  if (settings.softcap == 0 && flash_takes)
    return flash_attention_cuda(q, k, v, documents, settings);
  if (use_cpu_loops(q) || is_on_cuda(q)) return block_attention(q, k, v, documents, settings);
  return std::nullopt;
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Documents& documents,
                 const AttentionSettings& settings) {
  auto halves = attention_halves(q, k, v, documents, settings);
  if (!halves) return reference(q, k, v, documents, settings);
  return apply({q, k, v}, std::move(halves->forward), std::move(halves->backward));
}

}  // namespace ft
