// RMSNorm on CUDA with the sum before it: a block takes a row. The backward pass for x is
//   dx = s (dy w - x mean(dy w x) s^2),   s = 1 / rms(x)   (w: 1 + w where the norm adds one),
// and dw = sum over rows of dy x s is made in two steps without atomics, hence the same bits each
// time: block b adds up rows b, b + kNormPartials, ... then each column's partial sums are added.
#include "kernels/norm_code.cuh"

namespace ft::cuda {
namespace {

template <typename T>
__global__ void residual_norm_rows(ResidualNorm p) {
  const T* sum = row_of<T>(p.x, blockIdx.x);
  if (p.y.data) {
    const T *x = sum, *y = row_of<T>(p.y, blockIdx.x);
    T* to = row_of<T>(p.sum, blockIdx.x);
    const T* weight = static_cast<const T*>(p.y_weight);
    const float scale = weight ? inverse_rms(y, p.width, p.eps) : 0;
    for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) {
      const float v = to_float(y[i]);
      store(&to[i], to_float(x[i]) + (weight ? normed<T>(v, scale, weight[i], p.adds_one) : v));
    }
    sum = to;
  }
  if (!p.w) return;
  const T* w = static_cast<const T*>(p.w);
  T* out = row_of<T>(p.out, blockIdx.x);
  const float scale = inverse_rms(sum, p.width, p.eps);  // each thread reads what it wrote
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x)
    store(&out[i], normed<T>(to_float(sum[i]), scale, w[i], p.adds_one));
}

template <typename T>
__global__ void residual_norm_gradients(ResidualNormBackward p) {
  const NormWeight<T> w{static_cast<const T*>(p.w), p.adds_one ? 1.0f : 0.0f},
      y_weight{static_cast<const T*>(p.y_weight), w.one};
  float* partial = fresh_partial(p.dw, p.partial, p.width);
  float* y_partial = fresh_partial(p.dy_weight, p.y_partial, p.width);
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const T* dsum = row_of<T>(p.dsum, row);
    if (p.dout.data) {
      T* dx = row_of<T>(p.dx, row);
      norm_gradient(row_of<T>(p.dout, row), row_of<T>(p.sum, row), w, dsum, dx, partial, p.width,
                    p.eps);
      dsum = dx;
    }
    if (p.y.data)
      norm_gradient<T>(dsum, row_of<T>(p.y, row), y_weight, nullptr, row_of<T>(p.dy, row),
                       y_partial, p.width, p.eps);
  }
}

}  // namespace

cudaError_t residual_norm(const ResidualNorm& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(residual_norm_rows<T>, p.rows, threads_for(p.width), stream, p);
  });
}

cudaError_t residual_norm_backward(const ResidualNormBackward& p, cudaStream_t stream) {
  const int64_t partials = std::min(p.rows, kNormPartials);
  const cudaError_t error = with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const int64_t blocks = p.dw || p.dy_weight ? partials : p.rows;
    return launch(residual_norm_gradients<T>, blocks, threads_for(p.width), stream, p);
  });
  if (error != cudaSuccess) return error;
  const cudaError_t first = add_partials({p.partial, p.dw, partials, p.width}, stream);
  return first != cudaSuccess ? first
                              : add_partials({p.y_partial, p.dy_weight, partials, p.width}, stream);
}

}  // namespace ft::cuda
