// What the tests of AdamW with 8-bit moments share: three steps of any implementation, and how it
// is judged against the plain twin.
#pragma once

#include "kernels/adamw_cases.h"

namespace ft {

struct Adamw8bitState {
  Tensor param, extra;
  QuantizedMoments moments;
  std::vector<Tensor> tensors() const {
    return {param,
            extra.defined() ? extra : ops::empty({0}, at::kFloat),
            moments.exp_avg,
            moments.exp_avg_sq,
            moments.exp_avg_scale,
            moments.exp_avg_sq_scale};
  }
};
using Adamw8bitUpdate =
    std::function<void(const Adamw8bitState&, const Tensor&, const AdamwSettings&)>;

inline Adamw8bitState start_8bit(const Tensor& param, MasterWeights master) {
  const int64_t blocks = (param.numel() + 255) / 256;
  const at::Device device = param.device();
  Adamw8bitState s{param, {}, {}};
  s.moments = {ops::zeros(param.sizes(), at::kByte, device),
               ops::zeros(param.sizes(), at::kByte, device),
               ops::zeros({blocks}, at::kFloat, device), ops::zeros({blocks}, at::kFloat, device),
               make_dynamic_tables(device)};
  if (master == MasterWeights::kKahan) s.extra = ops::zeros(param.sizes(), at::kBFloat16, device);
  if (master == MasterWeights::kFloat32) s.extra = param.to(at::kFloat);
  return s;
}

inline Adamw8bitState three_8bit_steps(const AdamwCase& c, int64_t n, const Adamw8bitUpdate& update,
                                       at::Device device = at::kCPU) {
  Adamw8bitState state = start_8bit(normal({n}, 9).to(device, c.param), c.master);
  for (int64_t step = 1; step <= 3; ++step)
    update(state, normal({n}, 10 + static_cast<uint64_t>(step)).to(device, c.grad),
           {1e-2, 0.9, 0.95, 1e-8, 0.1, step, 0.5, c.master, 1234});
  return state;
}

inline int64_t num_above(const Tensor& difference, double limit) {
  return difference.abs().gt(limit).sum().item().toLong();
}

/// `fused` is tensors() after three_8bit_steps(). A number next to the middle of two codes may get
/// the other one: at most one in a hundred, and then the next.
inline void expect_as_plain_8bit(const AdamwCase& c, int64_t n, const std::vector<Tensor>& fused) {
  const PlainTwins plain;
  const auto twin = three_8bit_steps(c, n, [](const auto& t, const Tensor& g, const auto& s) {
                      adamw8bit(t.param, g, t.moments, t.extra, s);
                    }).tensors();
  const int64_t few = n / 100 + 1;
  const auto wide = [&](const std::vector<Tensor>& t) {  // with what the mode keeps
    const Tensor param = t[0].cpu().to(at::kFloat), extra = t[1].cpu();
    if (c.master == MasterWeights::kKahan) return param.add(extra);
    return c.master == MasterWeights::kFloat32 ? extra : param;
  };
  EXPECT_LE(num_above(wide(fused).sub(wide(twin)), 1e-5), few);
  for (const size_t codes : {2, 3}) {
    const Tensor difference = fused[codes].cpu().to(at::kInt).sub(twin[codes].to(at::kInt));
    EXPECT_LE(num_above(difference, 0), few);
    EXPECT_EQ(num_above(difference, 1), 0);
  }
  for (const size_t scales : {4, 5})
    EXPECT_LE(worst_error(fused[scales], twin[scales].to(at::kDouble)), 1e-6);
}

}  // namespace ft
