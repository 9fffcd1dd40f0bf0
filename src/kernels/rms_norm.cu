// RMSNorm on CUDA: a block takes a row. The backward pass for x is
//   dx = s (dy w - x mean(dy w x) s^2),   s = 1 / rms(x)   (w: 1 + w where the norm adds one),
// and dw = sum over rows of dy x s is made in two steps without atomics, hence the same bits each
// time: block b adds up rows b, b + kNormPartials, ... then each column's partial sums are added.
#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

template <typename T>
__device__ float inverse_rms(const T* x, int64_t width, float eps) {
  float sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) sum += to_float(x[i]) * to_float(x[i]);
  return 1.0f / sqrtf(block_reduce(sum, Add()) / static_cast<float>(width) + eps);
}

template <typename T>
__global__ void rms_norm_forward(RmsNorm p) {
  const int64_t begin = blockIdx.x * p.width;
  const T* __restrict__ x = static_cast<const T*>(p.x) + begin;
  const T* __restrict__ w = static_cast<const T*>(p.w);
  T* __restrict__ y = static_cast<T*>(p.y) + begin;
  const float scale = inverse_rms(x, p.width, p.eps);
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x)
    store(&y[i], p.adds_one ? (1.0f + to_float(w[i])) * (to_float(x[i]) * scale)
                            : to_float(w[i]) * rounded<T>(to_float(x[i]) * scale));
}

template <typename T>
__device__ void backward_row(const RmsNormBackward& p, int64_t row, float* __restrict__ partial) {
  const T* __restrict__ x = static_cast<const T*>(p.x) + row * p.width;
  const T* __restrict__ dy = static_cast<const T*>(p.dy) + row * p.width;
  const T* __restrict__ w = static_cast<const T*>(p.w);
  T* __restrict__ dx = static_cast<T*>(p.dx) + row * p.width;
  const float scale = inverse_rms(x, p.width, p.eps), one = p.adds_one ? 1.0f : 0.0f;
  float dot = 0;
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x)
    dot += to_float(dy[i]) * (one + to_float(w[i])) * to_float(x[i]);
  const float mean = block_reduce(dot, Add()) * scale * scale / static_cast<float>(p.width);
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) {
    store(&dx[i], scale * (to_float(dy[i]) * (one + to_float(w[i])) - to_float(x[i]) * mean));
    // A column belongs to one thread of the block: no other writes it.
    if (partial) partial[i] += to_float(dy[i]) * to_float(x[i]) * scale;
  }
}

template <typename T>
__global__ void rms_norm_backward_rows(RmsNormBackward p) {
  float* partial = p.dw ? p.partial + blockIdx.x * p.width : nullptr;
  if (partial)
    for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) partial[i] = 0;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) backward_row<T>(p, row, partial);
}

__global__ void rms_norm_add_partials(RmsNormBackward p) {
  const int64_t partials = p.rows < kNormPartials ? p.rows : kNormPartials;
  for (int64_t i = first_element(); i < p.width; i += element_stride()) {
    float sum = 0;
    for (int64_t b = 0; b < partials; ++b) sum += p.partial[b * p.width + i];
    p.dw[i] = sum;
  }
}

}  // namespace

cudaError_t rms_norm(const RmsNorm& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(rms_norm_forward<T>, p.rows, threads_for(p.width), stream, p);
  });
}

cudaError_t rms_norm_backward(const RmsNormBackward& p, cudaStream_t stream) {
  const cudaError_t error = with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const int64_t blocks = p.dw ? std::min(p.rows, kNormPartials) : p.rows;
    return launch(rms_norm_backward_rows<T>, blocks, threads_for(p.width), stream, p);
  });
  if (error != cudaSuccess || !p.dw) return error;
  return launch(rms_norm_add_partials, blocks_for(p.width), kBlock, stream, p);
}

}  // namespace ft::cuda
