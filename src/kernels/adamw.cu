// AdamW on CUDA: one element after another, everything of it in one pass.
#include "kernels/adamw_code.cuh"

namespace ft::cuda {
namespace {

template <typename T, typename G>
__global__ void adamw_kernel(Adamw p) {
  for (int64_t i = first_element(); i < p.count; i += element_stride()) {
    float m = p.exp_avg[i], v = p.exp_avg_sq[i];
    adamw_element<T, G>(p, i, m, v);
    p.exp_avg[i] = m;
    p.exp_avg_sq[i] = v;
  }
}

}  // namespace

cudaError_t adamw(const Adamw& p, cudaStream_t stream) {
  return with_adamw_types(p, [&](auto* weight, auto* gradient) {
    using T = std::remove_pointer_t<decltype(weight)>;
    using G = std::remove_pointer_t<decltype(gradient)>;
    return launch(adamw_kernel<T, G>, blocks_for(p.count), kBlock, stream, p);
  });
}

}  // namespace ft::cuda
