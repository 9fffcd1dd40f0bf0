// SwiGLU and GeGLU on CUDA: element by element, one pass each way; act and its slope are computed
// again in the backward pass.
#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

/// act(g) and act'(g).
struct Act {
  float value, slope;
};
struct Silu {
  __device__ Act operator()(float g) const {
    const float s = 1.0f / (1.0f + expf(-g));
    return {g * s, s * (1.0f + g * (1.0f - s))};
  }
};
struct GeluTanh {
  __device__ Act operator()(float g) const {
    constexpr float kRoot = 0.7978845608028654f, kCubic = 0.044715f;  // sqrt(2/pi)
    const float t = tanhf(kRoot * (g + kCubic * g * g * g));
    return {0.5f * g * (1.0f + t),
            0.5f * (1.0f + t) + 0.5f * g * (1.0f - t * t) * kRoot * (1.0f + 3.0f * kCubic * g * g)};
  }
};

template <typename T, typename Activate>
__global__ void gated_act_forward(GatedAct p) {
  const T* __restrict__ gate = static_cast<const T*>(p.gate), *up = static_cast<const T*>(p.up);
  T* __restrict__ y = static_cast<T*>(p.y);
  for (int64_t i = first_element(); i < p.count; i += element_stride())
    store(&y[i], Activate()(to_float(gate[i])).value * to_float(up[i]));
}

template <typename T, typename Activate>
__global__ void gated_act_gradients(GatedActBackward p) {
  const T* __restrict__ dy = static_cast<const T*>(p.dy), *gate = static_cast<const T*>(p.gate),
                        *up = static_cast<const T*>(p.up);
  T* __restrict__ dgate = static_cast<T*>(p.dgate), *dup = static_cast<T*>(p.dup);
  for (int64_t i = first_element(); i < p.count; i += element_stride()) {
    const float d = to_float(dy[i]);
    const Act a = Activate()(to_float(gate[i]));
    store(&dgate[i], d * to_float(up[i]) * a.slope);
    store(&dup[i], d * a.value);
  }
}

}  // namespace

cudaError_t gated_act(const GatedAct& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const auto kernel = p.activation == Activation::kSilu ? gated_act_forward<T, Silu>
                                                          : gated_act_forward<T, GeluTanh>;
    return launch(kernel, blocks_for(p.count), kBlock, stream, p);
  });
}

cudaError_t gated_act_backward(const GatedActBackward& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const auto kernel = p.activation == Activation::kSilu ? gated_act_gradients<T, Silu>
                                                          : gated_act_gradients<T, GeluTanh>;
    return launch(kernel, blocks_for(p.count), kBlock, stream, p);
  });
}

}  // namespace ft::cuda
