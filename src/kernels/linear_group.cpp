// The halves for one layer of a group, d = drop(x), x itself without dropout:
//   plain  y = x W^T + b
//   LoRA   y = x W^T + b + s (d A^T) B^T
//   DoRA   y = f * z + b,  z = d W^T + s (d A^T) B^T,  f = magnitude / norm;
//          with dropout y = x W^T - d W^T + f * z + b
// and backward, G = dY, for DoRA f * dY:
//   dX = G W + mask * (s G B) A,  with dropout DoRA's dY W + mask * (((f - 1) dY) W + (s G B) A)
//   dA = (s G B)^T d,   dB = s G^T (d A^T),   dm = sum_t dY_t z_t / norm
// The norm is a constant, as in PEFT. A and B are float32 (they are what is trained) and are cast
// to x's dtype at use; f stays float32: in bfloat16 the first changes of m would be lost. A W in
// four bits is made a matrix in each half, and never kept (but by the plain twin). On the CPU's
// matrix unit the adapter's term is summed with the big product before the one rounding: in
// bfloat16 its first steps would else be lost.
#include "kernels/linear_group.h"

#include "base/error.h"
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/linear_border.h"
#include "kernels/matrix_unit.h"
#include "kernels/mode.h"

namespace ft {
namespace {

/// x * f column by column in x's dtype; with `z` also the column sums of x * z, float32.
Tensor scale_columns(const Tensor& x, const Tensor& f, const Tensor& z = {},
                     Tensor* dots = nullptr) {
  if (!use_cpu_loops(x)) {
    if (dots) *dots = x.to(at::kFloat).mul(z).sum(0);
    return x.mul(f).to(x.scalar_type());
  }
  const ProfileScope scope("scale_columns");
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

Tensor reference(const Tensor& x, const LinearPart& p) {
  const auto dtype = x.scalar_type();
  const Tensor w = p.w.in(dtype);
  const OptTensor bias = p.bias.defined() ? OptTensor(p.bias) : std::nullopt;
  if (!p.lora.a.defined()) return ops::linear(x, w, bias);
  Tensor dropped = x;
  if (p.lora.dropout > 0)
    dropped = x.mul(
        dropout_mask(x.size(0), x.size(1), p.lora.dropout, p.lora.dropout_key, dtype, x.device()));
  const Tensor down = ops::linear(dropped, p.lora.a.to(dtype));
  if (!p.magnitude.defined()) {  // one sum with one rounding: see above
    const auto wide = wide_dtype(x);
    const Tensor whole =
        ops::linear(x.to(wide), w.to(wide), bias ? OptTensor(bias->to(wide)) : bias)
            .add(ops::linear(down.to(wide), p.lora.b.to(dtype).to(wide)), p.lora.scale);
    return whole.to(dtype);
  }
  const Tensor base = ops::linear(dropped, w), up = ops::linear(down, p.lora.b.to(dtype));
  Tensor y = base.add(up, p.lora.scale).mul(p.magnitude.div(p.norm)).to(dtype);
  if (p.lora.dropout > 0) y = y.add(ops::linear(x, w).sub(base));
  return bias ? y.add(*bias) : y;
}

}  // namespace

Tensor LinearWeight::in(at::ScalarType dtype) const {
  return quantized ? dequantize(*quantized, dtype) : dense.to(dtype);
}

Tensor linear(const Tensor& x, const LinearPart& layer) {
  FT_INVARIANT(layer.w.in_features() == x.size(1));
  if (!use_cpu_loops(x) && !use_cuda_kernels(x)) return reference(x, layer);
  const auto group = std::make_shared<LinearGroup>(std::vector<LinearPart>{layer});
  std::vector<Tensor> inputs = {x};
  ops::append(inputs, group->inputs());
  return apply(
      inputs,
      [&](Saved& saved) {
        const Tensor y = group->forward(x, saved.needs, 1)[0];
        saved.tensors = {group->reads_input() ? x : Tensor()};
        return y;
      },
      [group](const Tensor& grad, const Saved& saved) {
        std::vector<Tensor> grads = {group->input_gradient({grad.contiguous()}, saved.needs[0])};
        ops::append(grads, group->gradients(saved.tensors[0]));
        return grads;
      });
}

LinearGroup::LinearGroup(std::vector<LinearPart> parts, std::shared_ptr<LinearBorder> border)
    : parts_(std::move(parts)), border_(std::move(border)) {
  if (border_ && !border_->takes(parts_)) border_ = nullptr;
}

std::vector<Tensor> LinearGroup::inputs() const {
  std::vector<Tensor> all;
  for (const LinearPart& p : parts_)
    for (const Tensor& t : {p.w.dense, p.bias, p.lora.a, p.lora.b, p.magnitude}) all.push_back(t);
  return all;
}

int64_t LinearGroup::spare() const {
  return border_ ? border_->spare() : 0;
}

bool LinearGroup::is_float8() const {
  return border_ && border_->is_float8();
}

bool LinearGroup::any_needs(Input input) const {
  for (size_t i = 0; i < parts_.size(); ++i)
    if (needs(i, input)) return true;
  return false;
}

bool LinearGroup::reads_input() const {
  return any_needs(kW) || any_needs(kA);
}

Tensor LinearGroup::forward_part(size_t i, const Tensor& x, const Packed& packed) {
  const LinearPart& p = parts_[i];
  Kept& kept = kept_[i];
  const Right base{p.w.in(x.scalar_type()), true};
  if (!p.lora.a.defined()) return multiply({{packed, base}}, p.bias);
  Tensor mask, dropped = x;
  std::optional<Packed> packed_dropped;
  if (p.lora.dropout > 0) {
    mask = dropout_mask(x.size(0), x.size(1), p.lora.dropout, p.lora.dropout_key, x.scalar_type(),
                        x.device());
    dropped = x.mul(mask);
    packed_dropped.emplace(dropped);
  }
  const Packed& from = packed_dropped ? *packed_dropped : packed;
  const Tensor down = multiply({{from, {p.lora.a, true}}});  // [N, R]
  const Term up{Packed(down), {p.lora.b, true, p.lora.scale}};
  kept.mask = mask;
  if (needs(i, kB)) kept.down = down;
  if (!p.magnitude.defined()) return multiply({{packed, base}, up}, p.bias);
  kept.factor = p.magnitude.detach().to(at::kFloat).div(p.norm);
  const Tensor z = multiply({{from, base}, up});  // [N, out]
  if (needs(i, kMagnitude)) kept.z = z;
  Tensor y = scale_columns(z, kept.factor);
  if (mask.defined()) return multiply({{Packed(x.sub(dropped)), base}}, p.bias).add_(y);
  return p.bias.defined() ? y.add_(p.bias) : y;
}

std::vector<Tensor> LinearGroup::forward(const Tensor& x, const std::vector<bool>& needs,
                                         size_t first, const Float8Rows* rounded) {
  const at::NoGradGuard guard;
  const auto begin = needs.begin() + static_cast<std::ptrdiff_t>(first);
  needs_.assign(begin, begin + static_cast<std::ptrdiff_t>(num_inputs()));
  kept_.assign(parts_.size(), {});
  if (border_) return forward_bordered(x, rounded);
  std::vector<Tensor> outputs;
  const Packed packed(x);
  for (size_t i = 0; i < parts_.size(); ++i) outputs.push_back(forward_part(i, x, packed));
  return outputs;
}

Tensor LinearGroup::input_gradient(const std::vector<Tensor>& dys, bool wanted,
                                   const Float8Rows* rounded) {
  const at::NoGradGuard guard;
  if (border_) return input_gradient_bordered(dys, wanted, rounded);
  std::vector<Term> terms;
  Tensor masked;  // what comes through dropout masks
  for (size_t i = 0; i < parts_.size(); ++i) {
    const LinearPart& p = parts_[i];
    Kept& kept = kept_[i];
    kept.dy = dys[i];
    const auto dtype = kept.dy.scalar_type();
    const Tensor w = wanted ? p.w.in(dtype) : Tensor();
    const bool is_dora = p.magnitude.defined();
    Tensor dots;
    kept.g = is_dora ? scale_columns(kept.dy, kept.factor, kept.z,
                                     needs(i, kMagnitude) ? &dots : nullptr)
                     : kept.dy;
    if (dots.defined()) kept.magnitude_gradient = dots.div(p.norm);
    kept.z = Tensor();
    const Packed packed(kept.g);
    if (!p.lora.a.defined()) {
      if (wanted) terms.push_back({packed, {w}});
      continue;
    }
    kept.gb = multiply({{packed, {p.lora.b, false, p.lora.scale}}});  // [N, R]
    if (!wanted) continue;
    const Term through_a{Packed(kept.gb), {p.lora.a}};
    if (!kept.mask.defined()) {
      terms.push_back({packed, {w}});
      terms.push_back(through_a);
      continue;
    }
    std::vector<Term> dropped = {through_a};
    if (is_dora)
      dropped.insert(dropped.begin(), {Packed(scale_columns(kept.dy, kept.factor.sub(1))), {w}});
    terms.push_back({is_dora ? Packed(kept.dy) : packed, {w}});
    const Tensor part = multiply(dropped).mul_(kept.mask);
    masked = masked.defined() ? masked.add_(part) : part;
  }
  if (!wanted) return {};
  const Tensor dx = multiply(terms);
  return masked.defined() ? dx.add_(masked) : dx;
}

std::vector<Tensor> LinearGroup::gradients(const Tensor& x) {
  const at::NoGradGuard guard;
  std::vector<Tensor> grads(num_inputs());
  if (border_) {
    gradients_bordered(x, grads);
    return grads;
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    Tensor* grad = &grads[i * kInputs];
    const LinearPart& p = parts_[i];
    const Kept kept = std::move(kept_[i]);
    const Tensor dropped = x.defined() && kept.mask.defined() ? x.mul(kept.mask) : x;
    if (needs(i, kW)) {
      const bool is_dora = p.magnitude.defined();
      if (is_dora && kept.mask.defined()) {
        grad[kW] =
            multiply({{Packed(kept.dy, true), {x}},
                      {Packed(scale_columns(kept.dy, kept.factor.sub(1)), true), {dropped}}});
      } else {
        grad[kW] = multiply({{Packed(kept.g, true), {x}}});
      }
    }
    if (needs(i, kBias)) grad[kBias] = kept.dy.sum(0);
    if (needs(i, kA))
      grad[kA] = multiply({{Packed(kept.gb, true), {dropped}}}, {}, p.lora.a.scalar_type());
    if (needs(i, kB))  // the narrow side is the left operand
      grad[kB] = multiply({{Packed(kept.down, true), {kept.g}}}, {}, p.lora.b.scalar_type())
                     .t()
                     .contiguous()
                     .mul_(p.lora.scale);
    grad[kMagnitude] = kept.magnitude_gradient;
  }
  return grads;
}

}  // namespace ft
