// Rotary position embedding on CUDA: a block takes a token, whose heads share one row of cos and
// sin; a thread takes pairs (i, i + D/2).
#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

template <typename T>
__global__ void rope_tokens(Rope p) {
  const int D = static_cast<int>(p.head_size), half = D / 2;
  const int pairs = static_cast<int>(p.heads) * half;  // of one token: far below 2^31
  const int64_t token = blockIdx.x;
  const T* __restrict__ x = static_cast<const T*>(p.x) + token * p.heads * D;
  T* __restrict__ y = static_cast<T*>(p.y) + token * p.heads * D;
  for (int pair = static_cast<int>(threadIdx.x); pair < pairs;
       pair += static_cast<int>(blockDim.x)) {
    const int i = pair % half, first = pair / half * D + i, second = first + half;
    const float c = p.cos[token * half + i], s = p.sin[token * half + i] * p.sign;
    const float x1 = to_float(x[first]), x2 = to_float(x[second]);
    store(&y[first], x1 * c - x2 * s);
    store(&y[second], x2 * c + x1 * s);
  }
}

}  // namespace

cudaError_t rope(const Rope& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(rope_tokens<T>, p.tokens, threads_for(p.heads * p.head_size), stream, p);
  });
}

}  // namespace ft::cuda
