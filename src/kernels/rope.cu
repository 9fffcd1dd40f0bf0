// Rotary position embedding on CUDA, with the norms of queries and keys before it where there are
// any. Without norms a block takes a token, whose heads share one row of cos and sin, and a thread
// takes pairs (i, i + D/2); with norms a block takes a token's heads one after the other.
#include "kernels/norm_code.cuh"

namespace ft::cuda {
namespace {

/// One head, from x to y, which may be x.
template <typename T>
__device__ void rotate_pairs(const QkRope& p, int64_t token, const T* x, T* y, int64_t heads,
                             float sign) {
  const int half = static_cast<int>(p.head_size) / 2, pairs = static_cast<int>(heads) * half;
  for (int pair = static_cast<int>(threadIdx.x); pair < pairs;
       pair += static_cast<int>(blockDim.x)) {
    const int i = pair % half, first = pair / half * 2 * half + i, second = first + half;
    const float c = p.cos[token * half + i], s = p.sin[token * half + i] * sign;
    const float x1 = to_float(x[first]), x2 = to_float(x[second]);
    store(&y[first], x1 * c - x2 * s);
    store(&y[second], x2 * c + x1 * s);
  }
}

template <typename T>
__device__ void norm_and_rotate(const QkRope& p, int64_t token, const T* x, T* y, const T* w,
                                int64_t heads) {
  if (!w) return rotate_pairs(p, token, x, y, heads, 1.0f);
  const int64_t D = p.head_size, half = D / 2;
  for (int64_t head = 0; head < heads; ++head, x += D, y += D) {
    const float scale = inverse_rms(x, D, p.eps);
    for (int64_t i = threadIdx.x; i < half; i += blockDim.x) {
      const float c = p.cos[token * half + i], s = p.sin[token * half + i];
      const float x1 = normed<T>(to_float(x[i]), scale, w[i], p.adds_one),
                  x2 = normed<T>(to_float(x[i + half]), scale, w[i + half], p.adds_one);
      store(&y[i], x1 * c - x2 * s);
      store(&y[i + half], x2 * c + x1 * s);
    }
  }
}

template <typename T>
__global__ void qk_rope_tokens(QkRope p) {
  const int64_t token = blockIdx.x;
  norm_and_rotate(p, token, row_of<T>(p.q, token), row_of<T>(p.q_out, token),
                  static_cast<const T*>(p.q_weight), p.q_heads);
  norm_and_rotate(p, token, row_of<T>(p.k, token), row_of<T>(p.k_out, token),
                  static_cast<const T*>(p.k_weight), p.k_heads);
}

/// x: what was normed; to: its gradient, of dy rotated back, in place. It may be x or dy.
template <typename T>
__device__ void head_gradients(const QkRope& p, int64_t token, T* dy, const T* x, const T* w, T* to,
                               float* partial, int64_t heads) {
  if (!w) return rotate_pairs(p, token, dy, to, heads, -1.0f);
  const int64_t D = p.head_size;
  const NormWeight<T> weight{w, p.adds_one ? 1.0f : 0.0f};
  for (int64_t head = 0; head < heads; ++head, x += D, dy += D, to += D) {
    rotate_pairs(p, token, dy, dy, 1, -1.0f);
    __syncthreads();  // pairs are laid out otherwise than the columns of the norm
    norm_gradient<T>(dy, x, weight, nullptr, to, partial, D, p.eps);
    __syncthreads();
  }
}

template <typename T>
__global__ void qk_rope_gradients(QkRopeBackward b) {
  const QkRope& p = b.forward;
  float* q_partial = fresh_partial(b.q_dw, b.q_partial, p.head_size);
  float* k_partial = fresh_partial(b.k_dw, b.k_partial, p.head_size);
  for (int64_t token = blockIdx.x; token < p.tokens; token += gridDim.x) {
    head_gradients(p, token, row_of<T>(b.dq, token), row_of<T>(p.q, token),
                   static_cast<const T*>(p.q_weight), row_of<T>(p.q_out, token), q_partial,
                   p.q_heads);
    head_gradients(p, token, row_of<T>(b.dk, token), row_of<T>(p.k, token),
                   static_cast<const T*>(p.k_weight), row_of<T>(p.k_out, token), k_partial,
                   p.k_heads);
  }
}

int threads_of(const QkRope& p) {
  return threads_for(p.q_weight || p.k_weight ? 2 * p.head_size : p.q_heads * p.head_size);
}

}  // namespace

cudaError_t qk_rope(const QkRope& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(qk_rope_tokens<T>, p.tokens, threads_of(p), stream, p);
  });
}

cudaError_t qk_rope_backward(const QkRopeBackward& b, cudaStream_t stream) {
  const QkRope& p = b.forward;
  const int64_t partials = std::min(p.tokens, kNormPartials);
  const cudaError_t error = with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const int64_t blocks = b.q_dw || b.k_dw ? partials : p.tokens;
    return launch(qk_rope_gradients<T>, blocks, threads_of(p), stream, b);
  });
  if (error != cudaSuccess) return error;
  const cudaError_t first = add_partials({b.q_partial, b.q_dw, partials, p.head_size}, stream);
  return first != cudaSuccess ? first
                              : add_partials({b.k_partial, b.k_dw, partials, p.head_size}, stream);
}

}  // namespace ft::cuda
