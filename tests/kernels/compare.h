// How fused kernels are judged: against the plain twin in float64, allowing twice the error that
// the plain twin itself makes in the low precision, plus 1e-5.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numbers>

#include "base/seed.h"
#include "kernels/autograd.h"
#include "kernels/mode.h"

namespace ft {

/// Standard normal numbers in float64, a pure function of the seed.
inline Tensor normal(at::IntArrayRef sizes, uint64_t seed_value) {
  Tensor x = ops::empty(sizes, at::kDouble);
  auto* p = static_cast<double*>(x.data_ptr());
  Rng rng(seed_value);
  for (int64_t i = 0; i < x.numel(); ++i)
    p[i] = std::sqrt(-2 * std::log(1 - rng.uniform())) *
           std::cos(2 * std::numbers::pi * rng.uniform());
  return x;
}

inline double worst_error(const Tensor& x, const Tensor& exact) {
  if (x.numel() == 0) return 0;
  return x.to(at::kCPU, at::kDouble).sub(exact).abs().max().item().toDouble();
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         (a.numel() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
}

/// Output by output: `fused` against `exact` (float64), by the error of `plain` (low precision).
inline void expect_as_exact(const std::vector<Tensor>& fused, const std::vector<Tensor>& plain,
                            const std::vector<Tensor>& exact, double factor = 2) {
  ASSERT_EQ(fused.size(), exact.size());
  for (size_t i = 0; i < fused.size(); ++i) {
    EXPECT_EQ(fused[i].sizes(), exact[i].sizes()) << "output " << i;
    EXPECT_EQ(fused[i].scalar_type(), plain[i].scalar_type()) << "output " << i;
    EXPECT_LE(worst_error(fused[i], exact[i]), factor * worst_error(plain[i], exact[i]) + 1e-5)
        << "output " << i;
  }
}

/// Runs the plain twins while it lives.
struct PlainTwins {
  PlainTwins() { set_kernel_mode(KernelMode::kReference); }
  ~PlainTwins() { set_kernel_mode(KernelMode::kAuto); }
};

/// f's output and the gradients of its inputs, for an output gradient that depends on the shape
/// only. The inputs become leaves of `dtype` on `device`.
inline std::vector<Tensor> output_and_gradients(
    const std::function<Tensor(const std::vector<Tensor>&)>& f, const std::vector<Tensor>& inputs,
    at::ScalarType dtype, at::Device device = at::kCPU) {
  std::vector<Tensor> leaves;
  for (const Tensor& x : inputs)
    leaves.push_back(x.to(device, dtype, false, true).detach().requires_grad_());
  const Tensor y = f(leaves);
  run_backward(y, normal(y.sizes(), 99).to(device, y.scalar_type()));
  std::vector<Tensor> all = {y.detach()};
  for (const Tensor& x : leaves) all.push_back(x.grad());
  return all;
}

}  // namespace ft
