// Linear layers, plain and with a LoRA adapter. Hand-written backward: no gradient is made for what
// is frozen, and the adapter's part of dX is added into the big product's result.
//   y  = x W^T + b + s drop(x) A^T B^T
//   dX = dY W + s mask * (dY B) A,   dA = s (dY B)^T drop(x),   dB = s dY^T (drop(x) A^T)
// A and B are float32 (they are what is trained) and are cast to x's dtype at use. A W in four bits
// is made a matrix here and again in the backward pass, and never saved (but by the plain twin).
// s is part of the cast B. On the CPU's matrix unit the adapter's term is summed with the big
// product before the one rounding: in bfloat16 its first steps would else be lost.
#include "base/error.h"
#include "kernels/autograd.h"
#include "kernels/kernels.h"
#include "kernels/matrix_unit.h"
#include "kernels/mode.h"

namespace ft {
namespace {

Tensor reference(const Tensor& x, const Tensor& w, const Tensor& bias, const LoraOperands* lora,
                 const Tensor& mask) {
  Tensor y = ops::linear(x, w, bias.defined() ? OptTensor(bias) : std::nullopt);
  if (!lora) return y;
  const Tensor dropped = mask.defined() ? x.mul(mask) : x;
  const Tensor down = ops::linear(dropped, lora->a.to(x.scalar_type()));
  return y.add(ops::linear(down, lora->b.to(x.scalar_type())), lora->scale);
}

std::vector<Tensor> backward(const Tensor& dy, const Saved& saved,
                             const std::shared_ptr<const QuantizedWeight>& quantized, double scale,
                             const Tensor& mask) {
  // saved: x (when something needs it), w, a, b, x A^T. Inputs: x, w, bias, a, b.
  const Tensor &x = saved.tensors[0], &w = saved.tensors[1], &a = saved.tensors[2],
               &b = saved.tensors[3], &down = saved.tensors[4];
  const auto dtype = dy.scalar_type();
  std::vector<Tensor> grads(5);
  const auto input_gradient = [&](const Packed& packed, const std::vector<Term>& more) {
    std::vector<Term> terms = {{packed, {LinearWeight{w, quantized}.in(dtype)}}};
    terms.insert(terms.end(), more.begin(), more.end());
    return multiply(terms);
  };
  if (saved.needs[1]) grads[1] = multiply({{Packed(dy, true), {x}}});
  if (saved.needs[2]) grads[2] = dy.sum(0);
  const Packed packed(dy);
  if (!a.defined()) {
    if (saved.needs[0]) grads[0] = input_gradient(packed, {});
    return grads;
  }
  const Tensor dyb = multiply({{packed, {b, false, scale}}});  // [N, R]
  const Packed packed_dyb(dyb);
  const Term through_a{packed_dyb, {a}};
  if (saved.needs[0] && mask.defined()) {
    grads[0] = input_gradient(packed, {}).add_(multiply({through_a}).mul_(mask));
  } else if (saved.needs[0]) {
    grads[0] = input_gradient(packed, {through_a});
  }
  if (saved.needs[3])
    grads[3] =
        multiply({{Packed(dyb, true), {mask.defined() ? x.mul(mask) : x}}}, {}, a.scalar_type());
  if (saved.needs[4])  // the narrow side is the left operand
    grads[4] =
        multiply({{Packed(down, true), {dy}}}, {}, b.scalar_type()).t().contiguous().mul_(scale);
  return grads;
}

Tensor run(const Tensor& x, const LinearWeight& w, const Tensor& bias, const LoraOperands* lora) {
  FT_INVARIANT(w.in_features() == x.size(1));
  Tensor mask;
  if (lora && lora->dropout > 0)
    mask = dropout_mask(x.size(0), x.size(1), lora->dropout, lora->dropout_key, x.scalar_type(),
                        x.device());
  if (!use_cpu_loops(x) && !use_cuda_kernels(x))
    return reference(x, w.in(x.scalar_type()), bias, lora, mask);
  const Tensor a = lora ? lora->a : Tensor(), b = lora ? lora->b : Tensor();
  const double scale = lora ? lora->scale : 0;
  return apply(
      {x, w.dense, bias, a, b},
      [&](Saved& saved) {
        const auto dtype = x.scalar_type();
        const Packed packed(x);
        const Right weight{w.in(dtype), true};
        Tensor y, down;
        if (lora) {
          const Right through_a{a, true};
          down = mask.defined() ? multiply({{Packed(x.mul(mask)), through_a}})
                                : multiply({{packed, through_a}});
          y = multiply({{packed, weight}, {Packed(down), {b, true, scale}}}, bias);
        } else {
          y = multiply({{packed, weight}}, bias);
        }
        const bool keep_x = saved.needs[1] || saved.needs[3];
        saved.tensors = {keep_x ? x : Tensor(), w.dense, a, b, saved.needs[4] ? down : Tensor()};
        return y;
      },
      [scale, mask, quantized = w.quantized](const Tensor& grad, const Saved& saved) {
        return backward(grad.contiguous(), saved, quantized, scale, mask);
      });
}

}  // namespace

Tensor LinearWeight::in(at::ScalarType dtype) const {
  return quantized ? dequantize(*quantized, dtype) : dense.to(dtype);
}

Tensor lora_linear(const Tensor& x, const LinearWeight& w, const Tensor& bias,
                   const LoraOperands& lora) {
  return run(x, w, bias, &lora);
}

Tensor linear(const Tensor& x, const LinearWeight& w, const Tensor& bias) {
  return run(x, w, bias, nullptr);
}

}  // namespace ft
