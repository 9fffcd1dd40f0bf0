// What AdamW's tests share: dtypes and master modes, three steps of any implementation, and how the
// outcome is judged.
#pragma once

#include "kernels/compare.h"
#include "kernels/kernels.h"

namespace ft {

struct AdamwCase {
  const char* name;
  MasterWeights master;
  at::ScalarType param, grad;
};

inline const AdamwCase kAdamwCases[] = {
    {"float32", MasterWeights::kNone, at::kFloat, at::kFloat},
    {"float32_grad_bfloat16", MasterWeights::kNone, at::kFloat, at::kBFloat16},
    {"bfloat16", MasterWeights::kNone, at::kBFloat16, at::kBFloat16},
    {"bfloat16_grad_float32", MasterWeights::kNone, at::kBFloat16, at::kFloat},
    {"kahan", MasterWeights::kKahan, at::kBFloat16, at::kBFloat16},
    {"kahan_grad_float32", MasterWeights::kKahan, at::kBFloat16, at::kFloat},
    {"stochastic", MasterWeights::kStochastic, at::kBFloat16, at::kBFloat16},
    {"stochastic_grad_float32", MasterWeights::kStochastic, at::kBFloat16, at::kFloat},
    {"master", MasterWeights::kFloat32, at::kBFloat16, at::kBFloat16},
    {"master_grad_float32", MasterWeights::kFloat32, at::kBFloat16, at::kFloat},
};
inline std::string adamw_case_name(const testing::TestParamInfo<AdamwCase>& info) {
  return info.param.name;
}
inline void PrintTo(const AdamwCase& c, std::ostream* out) {
  *out << c.name;
}

struct AdamwState {
  Tensor param, exp_avg, exp_avg_sq, extra;
  /// All four; where the mode keeps nothing, an empty tensor stands for it.
  std::vector<Tensor> tensors() const {
    return {param, exp_avg, exp_avg_sq, extra.defined() ? extra : ops::empty({0}, at::kFloat)};
  }
};
using AdamwUpdate = std::function<void(const AdamwState&, const Tensor&, const AdamwSettings&)>;

/// Three steps on n elements. exact: all of it in float64, without a master mode.
inline AdamwState three_steps(const AdamwCase& c, int64_t n, const AdamwUpdate& update,
                              at::Device device = at::kCPU, bool exact = false) {
  const at::ScalarType wide = exact ? at::kDouble : at::kFloat;
  const Tensor start = normal({n}, 9).to(c.param);
  AdamwState state{start.to(device, exact ? wide : c.param, false, true),
                   ops::zeros({n}, wide, device), ops::zeros({n}, wide, device), Tensor()};
  if (!exact && c.master == MasterWeights::kKahan) state.extra = ops::zeros({n}, c.param, device);
  if (!exact && c.master == MasterWeights::kFloat32) state.extra = start.to(device, at::kFloat);
  for (int64_t step = 1; step <= 3; ++step) {
    const AdamwSettings s{
        1e-2, 0.9, 0.95, 1e-8, 0.1, step, 0.5, exact ? MasterWeights::kNone : c.master, 1234};
    const Tensor grad = normal({n}, 10 + static_cast<uint64_t>(step)).to(c.grad);
    update(state, grad.to(device, exact ? wide : c.grad), s);
  }
  return state;
}

/// Judges the state after three_steps() with a fused implementation.
inline void expect_as_plain_adamw(const AdamwCase& c, int64_t n, AdamwState fused) {
  const PlainTwins plain_mode;
  const AdamwUpdate plain = [](const AdamwState& t, const Tensor& g, const AdamwSettings& s) {
    adamw(t.param, g, t.exp_avg, t.exp_avg_sq, t.extra, s);
  };
  AdamwState twin = three_steps(c, n, plain), exact = three_steps(c, n, plain, at::kCPU, true);
  // A sum next to the middle of two bfloat16 (or, by chance, to where the noise decides) may fall
  // to the other side: a few may.
  if (c.param == at::kBFloat16) {
    EXPECT_LE(fused.param.cpu().ne(twin.param).sum().item().toLong(), n / 100 + 1);
  }
  // The weight proper: with what the mode keeps beside the bfloat16.
  for (AdamwState* t : {&fused, &twin}) {
    if (c.master == MasterWeights::kKahan) t->param = t->param.to(at::kFloat).add(t->extra);
    if (c.master == MasterWeights::kFloat32) t->param = t->extra;
  }
  expect_as_exact({fused.param, fused.exp_avg, fused.exp_avg_sq},
                  {twin.param, twin.exp_avg, twin.exp_avg_sq},
                  {exact.param, exact.exp_avg, exact.exp_avg_sq});
}

}  // namespace ft
