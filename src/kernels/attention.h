// The ways attention is computed; attention() in attention.cpp chooses. All take what it takes.
#pragma once

#include "kernels/autograd.h"
#include "kernels/kernels.h"

namespace ft {

/// Rows [begin, end) of x [N, heads, D] as [1, heads, T, D].
inline Tensor document_view(const Tensor& x, int64_t begin, int64_t end) {
  return x.narrow(0, begin, end - begin).transpose(0, 1).unsqueeze(0);
}

/// Which of the keys [first_key, first_key + num_keys) the queries [first_query, first_query +
/// num_queries) see, positions counted within one document: [num_queries, num_keys] bool.
Tensor visible_keys(int64_t first_query, int64_t num_queries, int64_t first_key, int64_t num_keys,
                    int64_t window, at::Device device);

/// The plain formula for one stretch of queries: q [T, H, D], k and v [L, K, D], visible [T, L] ->
/// [T, H, D] in q's dtype, sums in float32. What is not differentiated by hand is by autograd.
Tensor attend_plainly(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& visible,
                      const AttentionSettings& settings);

/// The way attention() goes for these tensors, as its two halves; the plain twin has none.
std::optional<OpHalves> attention_halves(const Tensor& q, const Tensor& k, const Tensor& v,
                                         const Documents& documents,
                                         const AttentionSettings& settings);

/// LibTorch's flash attention for the CPU (Dao 2023); no soft cap.
OpHalves flash_attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v,
                             const Documents& documents, const AttentionSettings& settings);

/// LibTorch's FlashAttention-2 over packed documents; bfloat16 and float16, D a multiple of 8 up to
/// 256, no soft cap. Also runs wherever else a kernel is registered for the two operators.
OpHalves flash_attention_cuda(const Tensor& q, const Tensor& k, const Tensor& v,
                              const Documents& documents, const AttentionSettings& settings);

/// On the CPU's matrix unit, for what use_matrix_unit() accepts. All settings.
OpHalves unit_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const Documents& documents, const AttentionSettings& settings);

/// Blocks of queries against the keys they see, the probabilities made again in the backward pass:
/// everything that flash attention does not take (soft caps, float32 on CUDA), on any device.
OpHalves block_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                         const Documents& documents, const AttentionSettings& settings);

}  // namespace ft
