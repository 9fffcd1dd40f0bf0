// AdamW on CUDA: one element after another, everything of it in one pass; a block takes a piece of
// one of many tensors.
#include "kernels/adamw_code.cuh"

namespace ft::cuda {
namespace {

constexpr int64_t kPiece = 16384;

template <typename T, typename G>
__global__ void adamw_kernel(AdamwMany all) {
  int64_t tensor = 0, begin = blockIdx.x * kPiece;  // within the tensor
  while (begin >= all.of[tensor].count)
    begin -= (all.of[tensor++].count + kPiece - 1) / kPiece * kPiece;
  const Adamw& p = all.of[tensor];
  const float scale = adamw_scale(p);
  if (scale != scale) return;  // NaN
  const int64_t end = begin + kPiece < p.count ? begin + kPiece : p.count;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    float m = p.exp_avg[i], v = p.exp_avg_sq[i];
    adamw_element<T, G>(p, scale, i, m, v);
    p.exp_avg[i] = m;
    p.exp_avg_sq[i] = v;
  }
}

}  // namespace

cudaError_t adamw(const AdamwMany& all, cudaStream_t stream) {
  int64_t blocks = 0;
  for (int64_t i = 0; i < all.tensors; ++i) blocks += (all.of[i].count + kPiece - 1) / kPiece;
  return with_adamw_types(all.of[0], [&](auto* weight, auto* gradient) {
    using T = std::remove_pointer_t<decltype(weight)>;
    using G = std::remove_pointer_t<decltype(gradient)>;
    return launch(adamw_kernel<T, G>, blocks, kBlock, stream, all);
  });
}

}  // namespace ft::cuda
