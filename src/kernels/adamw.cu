// AdamW on CUDA: one element after another, everything of it in one pass. What becomes of an update
// too small for bfloat16 is decided per call, so the branch costs nothing.
#include "base/seed.h"
#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

/// Updates the moments of element i; what to add to the weight `old`.
__device__ __forceinline__ float adamw_delta(const Adamw& p, int64_t i, float gradient, float old) {
  const AdamwFactors& f = p.factors;
  const float g = gradient * f.grad_scale;
  const float m = f.b1 * p.exp_avg[i] + f.one_b1 * g;
  const float v = f.b2 * p.exp_avg_sq[i] + f.one_b2 * g * g;
  p.exp_avg[i] = m;
  p.exp_avg_sq[i] = v;
  return old * f.decay - f.step_size * m / (sqrtf(v) / f.root2 + f.eps);
}

template <typename G>
__global__ void adamw_float32(Adamw p) {
  float* param = static_cast<float*>(p.param);
  const G* grad = static_cast<const G*>(p.grad);
  for (int64_t i = first_element(); i < p.count; i += element_stride())
    param[i] += adamw_delta(p, i, to_float(grad[i]), param[i]);
}

template <typename G>
__global__ void adamw_bfloat16(Adamw p) {
  Bf16* param = static_cast<Bf16*>(p.param);
  const G* grad = static_cast<const G*>(p.grad);
  for (int64_t i = first_element(); i < p.count; i += element_stride()) {
    if (p.master == MasterWeights::kFloat32) {
      float* master = static_cast<float*>(p.extra);
      master[i] += adamw_delta(p, i, to_float(grad[i]), master[i]);
      store(&param[i], master[i]);
      continue;
    }
    const float old = to_float(param[i]);
    float delta = adamw_delta(p, i, to_float(grad[i]), old);
    if (p.master == MasterWeights::kKahan) {  // what rounding takes away joins the next update
      Bf16* compensation = static_cast<Bf16*>(p.extra);
      delta += to_float(compensation[i]);
      store(&param[i], old + delta);
      store(&compensation[i], delta - (to_float(param[i]) - old));
    } else if (p.master == MasterWeights::kStochastic) {  // random low bits, then cut: unbiased
      const uint64_t noise = mix64(p.rounding_key ^ static_cast<uint64_t>(i)) & 0xffff;
      const unsigned bits = __float_as_uint(old + delta) + static_cast<unsigned>(noise);
      store(&param[i], __uint_as_float(bits & 0xffff0000u));
    } else {
      store(&param[i], old + delta);
    }
  }
}

}  // namespace

cudaError_t adamw(const Adamw& p, cudaStream_t stream) {
  const bool wide_param = p.param_dtype == Dtype::kFloat32, wide = p.grad_dtype == Dtype::kFloat32;
  const auto kernel = wide_param ? (wide ? adamw_float32<float> : adamw_float32<Bf16>)
                                 : (wide ? adamw_bfloat16<float> : adamw_bfloat16<Bf16>);
  return launch(kernel, blocks_for(p.count), kBlock, stream, p);
}

}  // namespace ft::cuda
