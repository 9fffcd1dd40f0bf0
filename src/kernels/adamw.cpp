// AdamW, one tensor at a time, in place. The plain twin serves every device; the CPU loops and the
// CUDA kernel do the same in one pass.
#include <cmath>

#include "base/error.h"
#include "base/seed.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/mode.h"

namespace ft {
namespace {

/// Rounds float32 to bfloat16 up or down by chance, in proportion to the distance: adds 16 random
/// bits below the cut.
Tensor round_stochastic(const Tensor& wide, uint64_t key) {
  Tensor noise = ops::empty({wide.numel()}, at::kInt);
  auto* out = static_cast<int32_t*>(noise.data_ptr());
  for (int64_t i = 0; i < noise.numel(); ++i)
    out[i] = static_cast<int32_t>(mix64(key ^ static_cast<uint64_t>(i)) & 0xffff);
  const Tensor bits =
      wide.contiguous().view(at::kInt).add(noise.to(wide.device()).view(wide.sizes()));
  return bits.bitwise_and(static_cast<int64_t>(~0xffff)).view(at::kFloat).to(at::kBFloat16);
}

void reference(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
               const Tensor& extra, const AdamwSettings& s) {
  const Tensor g = grad.to(wide_dtype(param)).mul(s.grad_scale);
  m.mul_(s.beta1).add_(g, 1 - s.beta1);
  v.mul_(s.beta2).addcmul_(g, g, 1 - s.beta2);
  const double correction1 = 1 - std::pow(s.beta1, static_cast<double>(s.step));
  const double correction2 = 1 - std::pow(s.beta2, static_cast<double>(s.step));
  const Tensor old = s.master == MasterWeights::kFloat32 ? extra : param.to(wide_dtype(param));
  Tensor delta =
      m.div(v.sqrt().div_(std::sqrt(correction2)).add_(s.eps)).mul_(-s.learning_rate / correction1);
  delta.add_(old, -s.learning_rate * s.weight_decay);
  if (s.master == MasterWeights::kFloat32) {
    extra.add_(delta);
    param.copy_(extra);
  } else if (s.master == MasterWeights::kKahan) {
    delta.add_(extra.to(at::kFloat));
    param.copy_(old.add(delta));
    extra.copy_(delta.sub(param.to(at::kFloat).sub(old)));
  } else if (s.master == MasterWeights::kStochastic) {
    param.copy_(round_stochastic(old.add(delta), s.rounding_key));
  } else {
    param.copy_(old.add(delta));
  }
}

void run_cuda(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
              const Tensor& extra, const AdamwSettings& s) {
  const cuda::Adamw p{cuda::dtype_of(param),  cuda::dtype_of(grad),   param.numel(),
                      cpu::data<void>(param), cpu::data<void>(grad),  cpu::data<float>(m),
                      cpu::data<float>(v),    cpu::data<void>(extra), s.master,
                      adamw_factors(s),       s.rounding_key};
  cuda::check_launch(cuda::adamw(p, nullptr), "adamw");
}

}  // namespace

void adamw(const Tensor& param, const Tensor& grad, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& extra, const AdamwSettings& settings) {
  at::NoGradGuard guard;
  FT_INVARIANT(settings.master == MasterWeights::kNone || param.scalar_type() == at::kBFloat16);
  if (use_cuda_kernels(param) && use_cuda_kernels(grad) && param.scalar_type() != at::kHalf &&
      grad.scalar_type() != at::kHalf) {
    run_cuda(param, grad, exp_avg, exp_avg_sq, extra, settings);
    return;
  }
  const bool same = grad.scalar_type() == param.scalar_type() || grad.scalar_type() == at::kFloat;
  if (!use_cpu_loops(param) || !grad.is_contiguous() || !same) {
    reference(param, grad, exp_avg, exp_avg_sq, extra, settings);
    return;
  }
  cpu::parallel_rows(param.numel(), 1, [&](int64_t begin, int64_t end) {
    const cpu::RowRange r{begin, end, 1};
    auto *m = cpu::data<float>(exp_avg), *v = cpu::data<float>(exp_avg_sq);
    void* state = cpu::data<void>(extra);
    if (param.scalar_type() == at::kFloat) {
      cpu::adamw(r, cpu::data<float>(param), cpu::data<float>(grad), m, v, state, settings);
    } else if (grad.scalar_type() == at::kFloat) {
      cpu::adamw(r, cpu::data<cpu::Bf16>(param), cpu::data<float>(grad), m, v, state, settings);
    } else {
      cpu::adamw(r, cpu::data<cpu::Bf16>(param), cpu::data<cpu::Bf16>(grad), m, v, state, settings);
    }
  });
}

}  // namespace ft
