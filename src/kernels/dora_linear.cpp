// A linear layer with a DoRA adapter (Liu et al. 2024), differentiated by hand. V = W + s B A is
// never made, and its norm n is a constant of the backward pass, as in PEFT. f = m / n:
//   z  = d W^T + s (d A^T) B^T           d = drop(x); x itself without dropout
//   y  = f * z + b                       with dropout: f * z + b + x W^T - d W^T
//   dX = G W + s mask * (G B) A          G = f * dY; with dropout: mask * (((f - 1) dY) W + ..) +
//   dY W dA = s (G B)^T d,   dB = s G^T (d A^T),   dm = sum_t dY_t z_t / n
// A W in four bits is made a matrix here and again in the backward pass.
// f stays float32 whatever the activations are: in bfloat16 the first changes of m would be lost.
#include <algorithm>

#include "base/error.h"
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/matrix_unit.h"
#include "kernels/mode.h"

namespace ft {
namespace {

Tensor reference(const Tensor& x, const Tensor& w, const Tensor& bias, const DoraOperands& dora,
                 const Tensor& mask) {
  const auto dtype = x.scalar_type();
  const Tensor f = dora.magnitude.div(dora.norm);
  const Tensor dropped = mask.defined() ? x.mul(mask) : x;
  const Tensor base = ops::linear(dropped, w);
  const Tensor down = ops::linear(dropped, dora.lora.a.to(dtype));
  const Tensor z = base.add(ops::linear(down, dora.lora.b.to(dtype)), dora.lora.scale);
  Tensor y = z.mul(f).to(dtype);
  if (mask.defined()) y = y.add(ops::linear(x, w).sub(base));
  return bias.defined() ? y.add(bias) : y;
}

/// x * f column by column in x's dtype; with `z` also the column sums of x * z, float32.
Tensor scale_columns(const Tensor& x, const Tensor& f, const Tensor& z = {},
                     Tensor* dots = nullptr) {
  if (!use_cpu_loops(x)) {
    if (dots) *dots = x.to(at::kFloat).mul(z).sum(0);
    return x.mul(f).to(x.scalar_type());
  }
  const Tensor y = ops::empty_like(x);
  if (dots) *dots = ops::zeros({x.size(1)}, at::kFloat);
  cpu::with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    const auto run = [&](int64_t begin, int64_t end) {
      cpu::scale_columns<T>({begin, end, x.size(1)}, cpu::data<T>(x), cpu::data<T>(dots ? z : x),
                            cpu::data<float>(f), cpu::data<T>(y),
                            dots ? cpu::data<float>(*dots) : nullptr);
    };
    // Sums over all rows are made in order on one thread, so that they do not depend on their
    // number.
    if (dots) {
      run(0, x.size(0));
    } else {
      cpu::parallel_rows(x.size(0), x.size(1), run);
    }
  });
  return y;
}

/// f of blocks of rows of the weight in float32, a few megabytes each, one after the other.
Tensor by_row_blocks(const LinearWeight& weight, const std::function<Tensor(const Tensor&)>& f) {
  const Tensor w = weight.quantized ? weight.in(weight.quantized->stored) : weight.dense.detach();
  const int64_t rows = std::max<int64_t>(1, (1 << 20) / w.size(1));
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < w.size(0); i += rows)
    parts.push_back(f(w.narrow(0, i, std::min(rows, w.size(0) - i)).to(at::kFloat)));
  return ops::cat(parts);
}

struct DoraConstants {
  std::shared_ptr<const QuantizedWeight> quantized;
  double scale;
  Tensor mask, f, norm;
};

std::vector<Tensor> backward(const Tensor& dy, const Saved& saved, const DoraConstants& c) {
  // saved: x (when something needs it), w, a, b, d A^T, z. Inputs: x, w, bias, a, b, magnitude.
  const Tensor &x = saved.tensors[0], &a = saved.tensors[2], &b = saved.tensors[3],
               &down = saved.tensors[4], &z = saved.tensors[5];
  const auto dtype = dy.scalar_type();
  const Tensor w =
      saved.needs[0] ? LinearWeight{saved.tensors[1], c.quantized}.in(dtype) : Tensor();
  std::vector<Tensor> grads(6);
  Tensor dots;
  const Tensor g = scale_columns(dy, c.f, z, saved.needs[5] ? &dots : nullptr);  // [N, out]
  if (dots.defined()) grads[5] = dots.div(c.norm);
  const Packed packed(g);
  const Tensor gb = multiply({{packed, {b, false, c.scale}}});  // [N, R]
  const Term through_a{Packed(gb), {a}};
  const Tensor rest = c.mask.defined() && (saved.needs[0] || saved.needs[1])
                          ? scale_columns(dy, c.f.sub(1))
                          : Tensor();  // what the dropped input's base term gets
  if (saved.needs[0] && c.mask.defined()) {
    grads[0] =
        multiply({{Packed(dy), {w}}}).addcmul_(multiply({{Packed(rest), {w}}, through_a}), c.mask);
  } else if (saved.needs[0]) {
    grads[0] = multiply({{packed, {w}}, through_a});
  }
  const Tensor dropped = x.defined() && c.mask.defined() ? x.mul(c.mask) : x;
  if (saved.needs[1])
    grads[1] = rest.defined() ? multiply({{Packed(dy, true), {x}}, {Packed(rest, true), {dropped}}})
                              : multiply({{Packed(g, true), {x}}});
  if (saved.needs[2]) grads[2] = dy.sum(0);
  if (saved.needs[3]) grads[3] = multiply({{Packed(gb, true), {dropped}}}, {}, a.scalar_type());
  if (saved.needs[4])  // the narrow side is the left operand
    grads[4] =
        multiply({{Packed(down, true), {g}}}, {}, b.scalar_type()).t().contiguous().mul_(c.scale);
  return grads;
}

}  // namespace

Tensor dora_linear(const Tensor& x, const LinearWeight& weight, const Tensor& bias,
                   const DoraOperands& dora) {
  FT_INVARIANT(weight.in_features() == x.size(1));
  const LoraOperands& lora = dora.lora;
  Tensor mask;
  if (lora.dropout > 0)
    mask = dropout_mask(x.size(0), x.size(1), lora.dropout, lora.dropout_key, x.scalar_type(),
                        x.device());
  if (!use_cpu_loops(x) && !use_cuda_kernels(x))
    return reference(x, weight.in(x.scalar_type()), bias, dora, mask);
  const DoraConstants constants{weight.quantized, lora.scale, mask,
                                dora.magnitude.detach().to(at::kFloat).div(dora.norm), dora.norm};
  return apply(
      {x, weight.dense, bias, lora.a, lora.b, dora.magnitude},
      [&](Saved& saved) {
        const auto dtype = x.scalar_type();
        const Tensor dropped = mask.defined() ? x.mul(mask) : x;
        const Tensor w = weight.in(dtype);
        const Packed packed(dropped);
        const Right base{w, true};
        const Tensor down = multiply({{packed, {lora.a, true}}});
        const Tensor z =
            multiply({{packed, base}, {Packed(down), {lora.b, true, lora.scale}}});  // [N, out]
        Tensor y;
        if (mask.defined()) y = multiply({{Packed(x.sub(dropped)), base}}, bias);
        const Tensor scaled = scale_columns(z, constants.f);
        const bool keeps_x = saved.needs[1] || saved.needs[3];
        saved.tensors = {keeps_x ? x : Tensor(),
                         weight.dense,
                         lora.a,
                         lora.b,
                         saved.needs[4] ? down : Tensor(),
                         saved.needs[5] ? z : Tensor()};
        if (y.defined()) return y.add_(scaled);
        return bias.defined() ? scaled.add_(bias) : scaled;
      },
      [constants](const Tensor& grad, const Saved& saved) {
        return backward(grad.contiguous(), saved, constants);
      });
}

Tensor row_squares(const LinearWeight& w) {
  return by_row_blocks(w, [](const Tensor& block) { return block.square().sum(1); });
}

Tensor dora_norm(const LinearWeight& w, const Tensor& squares, const LoraOperands& lora,
                 at::ScalarType precision) {
  at::NoGradGuard guard;
  const Tensor a = lora.a.to(at::kFloat), b = lora.b.to(at::kFloat);
  Tensor crossed;  // w A^T, [out, R]
  if (precision == at::kFloat) {
    crossed = by_row_blocks(w, [&](const Tensor& block) { return block.mm(a.t()); });
  } else {
    crossed = multiply({{Packed(a.to(precision)), {w.in(precision), true}}}, {}, at::kFloat)
                  .t()
                  .contiguous();
  }
  crossed.mul_(2 * lora.scale);
  const Tensor squared = b.mm(a.mm(a.t())).mul_(lora.scale * lora.scale);  // [out, R]
  // Rounding may take the square of a vanishing row below zero; a norm of zero would make f
  // infinite.
  return squares.add(crossed.add_(squared).mul_(b).sum(1)).clamp_min_(1e-30).sqrt_();
}

}  // namespace ft
