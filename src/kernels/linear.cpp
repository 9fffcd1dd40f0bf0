// Linear layers, plain and with a LoRA adapter. Hand-written backward: no gradient is made for what
// is frozen, and the adapter's part of dX is added into the big product's result.
//   y  = x W^T + b + s drop(x) A^T B^T
//   dX = dY W + s mask * (dY B) A,   dA = s (dY B)^T drop(x),   dB = s dY^T (drop(x) A^T)
// A and B are float32 (they are what is trained) and are cast to x's dtype at use. A W in four bits
// is made a matrix here and again in the backward pass, and never saved (but by the plain twin).
#include "base/error.h"
#include "kernels/autograd.h"
#include "kernels/kernels.h"
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
  const Tensor &x = saved.tensors[0], &a = saved.tensors[2], &b = saved.tensors[3];
  const Tensor& down = saved.tensors[4];
  std::vector<Tensor> grads(5);
  if (saved.needs[0])
    grads[0] = dy.mm(LinearWeight{saved.tensors[1], quantized}.in(dy.scalar_type()));
  if (saved.needs[1]) grads[1] = dy.t().mm(x);
  if (saved.needs[2]) grads[2] = dy.sum(0);
  if (!a.defined()) return grads;
  const Tensor dyb = dy.mm(b.to(dy.scalar_type())).mul_(scale);  // [N, R]
  const Tensor cast_a = a.to(dy.scalar_type());
  if (saved.needs[0]) {
    if (mask.defined()) {
      grads[0].add_(dyb.mm(cast_a).mul_(mask));
    } else {
      grads[0].addmm_(dyb, cast_a);
    }
  }
  if (saved.needs[3]) grads[3] = dyb.t().mm(mask.defined() ? x.mul(mask) : x).to(a.scalar_type());
  if (saved.needs[4]) grads[4] = dy.t().mm(down).to(b.scalar_type()).mul_(scale);
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
        Tensor y =
            ops::linear(x, w.in(x.scalar_type()), bias.defined() ? OptTensor(bias) : std::nullopt);
        Tensor down;
        if (lora) {
          down = ops::linear(mask.defined() ? x.mul(mask) : x, a.to(x.scalar_type()));
          y.addmm_(down, b.to(x.scalar_type()).t(), 1, scale);
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
