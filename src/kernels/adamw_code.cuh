// The update of one weight, shared by AdamW's kernels: moments in registers, weights and what the
// master mode keeps beside them in memory. What becomes of an update too small for bfloat16 is
// decided per call, so the branch costs nothing.
#pragma once

#include "base/seed.h"
#include "kernels/device_code.cuh"

namespace ft::cuda {

/// What gradients are multiplied with; NaN: nothing is to be updated.
__device__ __forceinline__ float adamw_scale(const Adamw& p) {
  return p.factors.grad_scale * (p.device_scale ? static_cast<float>(*p.device_scale) : 1.0f);
}

/// Updates the moments with gradient g; what to add to the weight `old`.
__device__ __forceinline__ float adamw_delta(const AdamwFactors& f, float g, float old, float& m,
                                             float& v) {
  m = f.b1 * m + f.one_b1 * g;
  v = f.b2 * v + f.one_b2 * g * g;
  return old * f.decay - f.step_size * m / (sqrtf(v) / f.root2 + f.eps);
}

/// Updates weight i, of type T with a gradient of type G, and its moments.
template <typename T, typename G>
__device__ __forceinline__ void adamw_element(const Adamw& p, float scale, int64_t i, float& m,
                                              float& v) {
  T* param = static_cast<T*>(p.param);
  const float gradient = scale * to_float(static_cast<const G*>(p.grad)[i]);
  if (p.master == MasterWeights::kFloat32) {
    float* master = static_cast<float*>(p.extra);
    master[i] += adamw_delta(p.factors, gradient, master[i], m, v);
    store(&param[i], master[i]);
    return;
  }
  const float old = to_float(param[i]);
  float delta = adamw_delta(p.factors, gradient, old, m, v);
  if (p.master == MasterWeights::kKahan) {  // what rounding takes away joins the next update
    T* compensation = static_cast<T*>(p.extra);
    delta += to_float(compensation[i]);
    store(&param[i], old + delta);
    store(&compensation[i], delta - (to_float(param[i]) - old));
  } else if (p.master == MasterWeights::kStochastic) {  // random low bits, then cut: unbiased
    const auto element = static_cast<uint64_t>(p.first_element + i);
    const uint64_t noise = mix64(p.rounding_key ^ element) & 0xffff;
    const unsigned bits = __float_as_uint(old + delta) + static_cast<unsigned>(noise);
    store(&param[i], __uint_as_float(bits & 0xffff0000u));
  } else {
    store(&param[i], old + delta);
  }
}

/// f(weight, gradient) with null pointers of the types of p; bfloat16 gradients of float32 weights
/// exist too.
template <typename F>
cudaError_t with_adamw_types(const Adamw& p, F&& f) {
  return with_type(p.param_dtype, [&](auto* weight) {
    return with_type(p.grad_dtype, [&](auto* gradient) -> cudaError_t {
      using T = std::remove_pointer_t<decltype(weight)>;
      using G = std::remove_pointer_t<decltype(gradient)>;
      if constexpr (std::is_same_v<T, Half> || std::is_same_v<G, Half>) {
        return cudaErrorInvalidValue;
      } else {
        return f(weight, gradient);
      }
    });
  });
}

}  // namespace ft::cuda
