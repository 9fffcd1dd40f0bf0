// Softmax cross-entropy on CUDA: a block takes a row of logits. One pass finds the maximum and the
// sum of exponentials together (the "online" softmax of Milakov & Gimelshein 2018), a second one,
// where wanted, writes the gradient over the logits.
#include <cfloat>

#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

template <typename T>
__global__ void cross_entropy_rows(CrossEntropy p) {
  T* logits = static_cast<T*>(p.logits) + blockIdx.x * p.width;
  const int64_t target = p.targets[blockIdx.x];
  const float at_target = to_float(logits[target]);  // read before any thread overwrites it
  // The smallest finite number, not -inf: exp(-inf - -inf) would be NaN.
  float top = -FLT_MAX, sum = 0;
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) {
    const float l = to_float(logits[i]);
    if (l > top) {
      sum *= expf(top - l);
      top = l;
    }
    sum += expf(l - top);  // NaN goes through: a broken row gives a broken loss
  }
  const float row_top = block_reduce(top, Max());
  const float total = block_reduce(sum * expf(top - row_top), Add());
  if (threadIdx.x == 0) p.losses[blockIdx.x] = logf(total) + (row_top - at_target);
  if (!p.overwrite) return;
  const float scale = 1.0f / total;
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x)
    store(&logits[i], expf(to_float(logits[i]) - row_top) * scale - (i == target ? 1.0f : 0.0f));
}

}  // namespace

cudaError_t cross_entropy(const CrossEntropy& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(cross_entropy_rows<T>, p.rows, threads_for(p.width), stream, p);
  });
}

}  // namespace ft::cuda
