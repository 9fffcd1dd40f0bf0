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

cuda::GatedAct arguments(const Tensor& gate, const Tensor& up, Activation activation,
                         const Tensor& y, const Float8Rows& rounded = {}) {
  return {cuda::dtype_of(gate), gate.size(0),   gate.size(1),  activation,
          cuda::rows(gate),     cuda::rows(up), cuda::rows(y), cuda::float8_out(rounded)};
}

}  // namespace

Tensor gated_act_forward(const Tensor& gate, const Tensor& up, Activation activation, int64_t spare,
                         Float8Rows* rounded) {
  const Tensor y = empty_rows(gate.sizes(), spare, gate);
  if (!gate.is_cpu()) {
    if (rounded) *rounded = empty_float8(gate.size(0), gate.size(1), gate.device());
    const Float8Rows to = rounded ? *rounded : Float8Rows{};
    cuda::run("gated_act", cuda::gated_act, arguments(gate, up, activation, y, to),
              {gate, up, y, to.codes, to.scales});
    return y;
  }
  const ProfileScope scope("gated_act");
  cpu::for_rows(gate, gate.size(-1), [&](auto* t, cpu::RowRange r) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::gated_act<T>(r, cpu::data<T>(gate), cpu::data<T>(up), cpu::data<T>(y), activation);
  });
  if (rounded) *rounded = to_float8(y);
  return y;
}

void gated_act_backward(const Tensor& dy, const Tensor& gate, const Tensor& up,
                        Activation activation, const Tensor& dgate, const Tensor& dup,
                        const Tensor& again, Float8Rows* rounded) {
  if (!gate.is_cpu()) {
    if (rounded) *rounded = empty_float8(gate.size(0), 2 * gate.size(1), gate.device());
    const Float8Rows to = rounded ? *rounded : Float8Rows{};
    const cuda::GatedActBackward p{arguments(gate, up, activation, again), cuda::rows(dy),
                                   cuda::rows(dgate), cuda::rows(dup), cuda::float8_out(to)};
    return cuda::run("gated_act backward", cuda::gated_act_backward, p,
                     {dy, gate, up, dgate, dup, again, to.codes, to.scales});
  }
  const ProfileScope scope("gated_act backward");
  cpu::for_rows(gate, gate.size(-1), [&](auto* t, cpu::RowRange r) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::gated_act_backward<T>(r, cpu::data<T>(dy), cpu::data<T>(gate), cpu::data<T>(up),
                               cpu::data<T>(dgate), cpu::data<T>(dup), cpu::data<T>(again),
                               activation);
  });
  if (rounded) *rounded = to_float8(ops::cat({dgate, dup}, 1));
}

Tensor gated_act(const Tensor& gate, const Tensor& up, Activation activation) {
  check_shape(up, "gated_act up", {gate.size(0), gate.size(1)});
  const bool fused = (use_cpu_loops(gate) || use_cuda_kernels(gate)) && up.is_contiguous() &&
                     up.scalar_type() == gate.scalar_type();
  if (!fused) return reference(gate, up, activation);
  return apply(
      {gate, up},
      [&](Saved& saved) {
        saved.tensors = {gate, up};
        return gated_act_forward(gate, up, activation, 0);
      },
      [activation](const Tensor& grad, const Saved& saved) -> std::vector<Tensor> {
        const auto& in = saved.tensors;
        const Tensor dgate = ops::empty_like(in[0]), dup = ops::empty_like(in[1]);
        gated_act_backward(grad.contiguous(), in[0], in[1], activation, dgate, dup, {});
        return {dgate, dup};
      });
}

}  // namespace ft
