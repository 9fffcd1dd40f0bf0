// AdamW in place. The plain twin serves every device; the CPU loops and the
// CUDA kernel do the same in one pass.
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/seed.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"

namespace ft {
namespace {

/// Rounds float32 to bfloat16 up or down by chance, in proportion to the distance: adds 16 random
/// bits below the cut.
Tensor round_stochastic(const Tensor& wide, uint64_t key, int64_t first) {
  Tensor noise = ops::empty({wide.numel()}, at::kInt);
  auto* out = static_cast<int32_t*>(noise.data_ptr());
  for (int64_t i = 0; i < noise.numel(); ++i)
    out[i] = static_cast<int32_t>(mix64(key ^ static_cast<uint64_t>(first + i)) & 0xffff);
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
    param.copy_(round_stochastic(old.add(delta), s.rounding_key, s.first_element));
  } else {
    param.copy_(old.add(delta));
  }
}

/// Tensors of the same two dtypes.
void launch(const std::vector<AdamwTensors>& all) {
  for (size_t first = 0; first < all.size(); first += cuda::AdamwMany::kMost) {
    cuda::AdamwMany call{};
    std::vector<Tensor> touched;
    for (size_t i = first; i < all.size() && call.tensors < cuda::AdamwMany::kMost; ++i) {
      const AdamwTensors& t = all[i];
      call.of[call.tensors++] =
          cuda::adamw_arguments(t.param, t.grad, cpu::data<float>(t.exp_avg),
                                cpu::data<float>(t.exp_avg_sq), t.extra, t.settings);
      // Read and written, but for the gradient.
      ops::append(touched, {t.param, t.param, t.grad, t.exp_avg, t.exp_avg, t.exp_avg_sq,
                            t.exp_avg_sq, t.extra, t.extra});
    }
    cuda::run("adamw", cuda::adamw, call, touched);
  }
}

}  // namespace

void adamw(const std::vector<AdamwTensors>& all) {
  const at::NoGradGuard guard;
  using Dtypes = std::pair<at::ScalarType, at::ScalarType>;
  std::map<Dtypes, std::vector<AdamwTensors>> by_dtypes;
  for (const AdamwTensors& t : all) {
    if (cuda::has_adamw_kernel(t.param, t.grad)) {
      by_dtypes[{t.param.scalar_type(), t.grad.scalar_type()}].push_back(t);
    } else {
      adamw(t.param, t.grad, t.exp_avg, t.exp_avg_sq, t.extra, t.settings);
    }
  }
  for (const auto& [dtypes, tensors] : by_dtypes) launch(tensors);
}

void adamw(const Tensor& param, const Tensor& grad, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& extra, const AdamwSettings& settings) {
  at::NoGradGuard guard;
  FT_INVARIANT(settings.master == MasterWeights::kNone || param.scalar_type() == at::kBFloat16);
  if (cuda::has_adamw_kernel(param, grad))
    return launch({{param, grad, exp_avg, exp_avg_sq, extra, settings}});
  FT_INVARIANT(!settings.device_scale);
  if (!use_cpu_loops(param) || !cpu::has_adamw_loop(param, grad)) {
    reference(param, grad, exp_avg, exp_avg_sq, extra, settings);
    return;
  }
  const ProfileScope scope("adamw");
  cpu::parallel_rows(param.numel(), 1, [&](int64_t begin, int64_t end) {
    cpu::with_adamw_types(param, grad, [&](auto* p, auto* g) {
      cpu::adamw({begin, end, 1}, p, g, cpu::data<float>(exp_avg), cpu::data<float>(exp_avg_sq),
                 cpu::data<void>(extra), settings);
    });
  });
}

}  // namespace ft
