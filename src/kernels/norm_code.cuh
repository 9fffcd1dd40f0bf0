// What the kernels with an RMSNorm in them share: a block works on a row.
#pragma once

#include "kernels/device_code.cuh"

namespace ft::cuda {

template <typename T>
__device__ __forceinline__ T* row_of(const Rows& rows, int64_t row) {
  return rows.data ? static_cast<T*>(rows.data) + row * rows.stride : nullptr;
}

template <typename T>
__device__ float inverse_rms(const T* x, int64_t width, float eps) {
  float sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) sum += to_float(x[i]) * to_float(x[i]);
  return 1.0f / sqrtf(block_reduce(sum, Add()) / static_cast<float>(width) + eps);
}

/// An element of a norm's output, rounded as it is stored.
template <typename T>
__device__ float normed(float x, float scale, T w, bool adds_one) {
  return rounded<T>(adds_one ? (1.0f + to_float(w)) * (x * scale)
                             : to_float(w) * rounded<T>(x * scale));
}

template <typename T>
struct NormWeight {
  const T* w;
  float one;  ///< added to it
  __device__ float operator[](int64_t i) const { return one + to_float(w[i]); }
};

/// dx = more (may be null) + the gradient of a norm's input x; `partial` (may be null) is added to.
/// A column belongs to one thread of the block: dx may be dy or more.
template <typename T>
__device__ void norm_gradient(const T* dy, const T* x, const NormWeight<T>& w, const T* more, T* dx,
                              float* partial, int64_t width, float eps) {
  const float scale = inverse_rms(x, width, eps);
  float dot = 0;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x)
    dot += to_float(dy[i]) * w[i] * to_float(x[i]);
  const float mean = block_reduce(dot, Add()) * scale * scale / static_cast<float>(width);
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    const float g = to_float(dy[i]), v = to_float(x[i]);
    store(&dx[i], (more ? to_float(more[i]) : 0.0f) + scale * (g * w[i] - v * mean));
    if (partial) partial[i] += g * v * scale;
  }
}

/// This block's row of scratch [blocks, width] for sums over rows, zeroed; null where the sums are
/// not wanted.
inline __device__ float* fresh_partial(const float* sums, float* partial, int64_t width) {
  if (!sums) return nullptr;
  float* own = partial + blockIdx.x * width;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) own[i] = 0;
  return own;
}

/// sums[i] = the sum of column i of partial [rows, width], in order.
struct Partials {
  const float* partial;
  float* sums;
  int64_t rows, width;
};
static __global__ void add_partial_rows(Partials p) {
  for (int64_t i = first_element(); i < p.width; i += element_stride()) {
    float sum = 0;
    for (int64_t b = 0; b < p.rows; ++b) sum += p.partial[b * p.width + i];
    p.sums[i] = sum;
  }
}
inline cudaError_t add_partials(const Partials& p, cudaStream_t stream) {
  if (!p.sums) return cudaSuccess;
  return launch(add_partial_rows, blocks_for(p.width), kBlock, stream, p);
}

}  // namespace ft::cuda
