// SwiGLU and GeGLU (Shazeer 2020): act(gate) * up in one pass each way.
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/mode.h"

namespace ft {
namespace {

Tensor reference(const Tensor& gate, const Tensor& up, Activation activation) {
  const Tensor acted = activation == Activation::kSilu ? at::_ops::silu::call(gate)
                                                       : at::_ops::gelu::call(gate, "tanh");
  return acted.mul(up);
}

Tensor forward(const Tensor& gate, const Tensor& up, Activation activation) {
  Tensor y = ops::empty_like(gate);
  if (gate.is_cuda()) {
    const cuda::GatedAct p{cuda::dtype_of(gate),  gate.numel(),        activation,
                           cpu::data<void>(gate), cpu::data<void>(up), cpu::data<void>(y)};
    cuda::check_launch(cuda::gated_act(p, nullptr), "gated_act");
    return y;
  }
  cpu::for_rows(gate, gate.size(-1), [&](auto* t, cpu::RowRange r) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::gated_act<T>(r, cpu::data<T>(gate), cpu::data<T>(up), cpu::data<T>(y), activation);
  });
  return y;
}

std::vector<Tensor> backward(const Tensor& grad, const Saved& saved, Activation activation) {
  const Tensor &gate = saved.tensors[0], &up = saved.tensors[1];
  const Tensor dy = grad.contiguous();
  Tensor dgate = ops::empty_like(gate), dup = ops::empty_like(up);
  if (gate.is_cuda()) {
    const cuda::GatedActBackward p{
        cuda::dtype_of(gate),   gate.numel(),          activation,
        cpu::data<void>(dy),    cpu::data<void>(gate), cpu::data<void>(up),
        cpu::data<void>(dgate), cpu::data<void>(dup)};
    cuda::check_launch(cuda::gated_act_backward(p, nullptr), "gated_act backward");
    return {dgate, dup};
  }
  cpu::for_rows(gate, gate.size(-1), [&](auto* t, cpu::RowRange r) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::gated_act_backward<T>(r, cpu::data<T>(dy), cpu::data<T>(gate), cpu::data<T>(up),
                               cpu::data<T>(dgate), cpu::data<T>(dup), activation);
  });
  return {dgate, dup};
}

}  // namespace

Tensor gated_act(const Tensor& gate, const Tensor& up, Activation activation) {
  check_shape(up, "gated_act up", {gate.size(0), gate.size(1)});
  const bool fused = (use_cpu_loops(gate) || use_cuda_kernels(gate)) && up.is_contiguous() &&
                     up.scalar_type() == gate.scalar_type();
  if (!fused) return reference(gate, up, activation);
  return apply(
      {gate, up},
      [&](Saved& saved) {
        saved.tensors = {gate, up};
        return forward(gate, up, activation);
      },
      [activation](const Tensor& grad, const Saved& saved) {
        return backward(grad, saved, activation);
      });
}

}  // namespace ft
