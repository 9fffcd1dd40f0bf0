#include "kernels/linear_border.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/dispatch.h"
#include "kernels/mode.h"

namespace ft {
namespace {

bool has_adapter(const LinearPart& p) {
  return p.lora.a.defined();
}

}  // namespace

LinearBorder::LinearBorder(const std::vector<LinearPart>& parts, at::ScalarType dtype)
    : dtype_(dtype), in_(parts[0].w.in_features()) {
  for (const LinearPart& p : parts) {
    outs_.push_back(out_ += p.w.out());
    ranks_.push_back(rank_ += has_adapter(p) ? p.lora.a.size(0) : 0);
  }
}

LinearBorder::LinearBorder(const std::vector<LinearPart>& parts,
                           const std::vector<Tensor*>& weights, at::ScalarType dtype)
    : LinearBorder(parts, dtype) {
  const at::NoGradGuard guard;
  for (const LinearPart& p : parts)
    if (p.w.quantized) return;
  kept_ = operands_of(ops::empty({out_ + rank_, in_ + rank_}, dtype, parts[0].w.dense.device()));
  for (size_t i = 0; i < parts.size(); ++i) {
    const Tensor place = kept_.m.narrow(0, first_out(i), out_of(i)).narrow(1, 0, in_);
    place.copy_(*weights[i]);
    *weights[i] = place;
  }
}

std::shared_ptr<LinearBorder> LinearBorder::in_float8(const std::vector<LinearPart>& parts,
                                                      at::ScalarType dtype) {
  const at::NoGradGuard guard;
  std::shared_ptr<LinearBorder> made(new LinearBorder(parts, dtype));
  std::vector<Tensor> weights;
  for (const LinearPart& p : parts) weights.push_back(p.w.dense);
  const Tensor joined = weights.size() == 1 ? weights[0].contiguous() : ops::cat(weights);
  made->rows_ = to_float8(joined);
  made->columns_ = to_float8(joined.t().contiguous());
  const at::Device device = joined.device();
  made->kept_ = {Tensor(), ops::empty({made->rank_, made->in_}, dtype, device),
                 ops::empty({made->out_, made->rank_}, dtype, device)};
  return made;
}

bool LinearBorder::can_hold(const LinearPart& p) {
  const bool is_trained = p.w.dense.defined() && p.w.dense.requires_grad();
  return !is_trained && p.lora.dropout == 0 && !p.magnitude.defined();
}

bool LinearBorder::can_hold_float8(const std::vector<LinearPart>& parts) {
  return std::ranges::all_of(parts, [](const LinearPart& p) {
    return can_hold(p) && !p.w.quantized && p.w.out() % kFloat8Multiple == 0 &&
           p.w.in_features() % kFloat8Multiple == 0;
  });
}

bool LinearBorder::holds(const LinearWeight& w) const {
  if (is_float8()) return w.quantized && w.quantized->codes.is_alias_of(rows_.codes);
  return bool{w.quantized} != kept_.m.defined();
}

bool LinearBorder::takes(const std::vector<LinearPart>& parts) const {
  if (parts.size() + 1 != outs_.size() || kernel_mode() == KernelMode::kReference) return false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t rank = has_adapter(parts[i]) ? parts[i].lora.a.size(0) : 0;
    if (!can_hold(parts[i]) || rank != rank_of(i) || !holds(parts[i].w)) return false;
  }
  return rank_ > 0;
}

LinearBorder::Operands LinearBorder::operands_of(const Tensor& matrix) const {
  return {matrix, matrix.narrow(0, out_, rank_).narrow(1, 0, in_),
          matrix.narrow(0, 0, out_).narrow(1, in_, rank_)};
}

void LinearBorder::write_adapters(const std::vector<LinearPart>& parts, const Operands& to) const {
  if (!to.a.is_cpu()) {
    FT_INVARIANT(parts.size() <= cuda::Border::kMaxParts);
    cuda::Border p{.dtype = cuda::dtype_of(dtype_),
                   .adapter_dtype = cuda::dtype_of(at::kFloat),
                   .parts = static_cast<int64_t>(parts.size()),
                   .in = in_,
                   .out = out_,
                   .outs = {},
                   .ranks = {},
                   .a = {},
                   .b = {},
                   .scales = {},
                   .a_to = cuda::rows(to.a),
                   .b_to = cuda::rows(to.b)};
    for (size_t i = 0; i < parts.size(); ++i) {
      p.outs[i] = out_of(i);
      p.ranks[i] = rank_of(i);
      if (!has_adapter(parts[i])) continue;
      FT_INVARIANT(parts[i].lora.a.is_contiguous() && parts[i].lora.b.is_contiguous());
      p.adapter_dtype = cuda::dtype_of(parts[i].lora.a);
      p.a[i] = cpu::data<void>(parts[i].lora.a);
      p.b[i] = cpu::data<void>(parts[i].lora.b);
      p.scales[i] = static_cast<float>(parts[i].lora.scale);
    }
    return cuda::run("linear_border", cuda::border, p, {to.a, to.b});
  }
  to.b.zero_();
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!has_adapter(parts[i])) continue;
    const LoraOperands& lora = parts[i].lora;
    to.a.narrow(0, first_rank(i), rank_of(i)).copy_(lora.a);
    to.b.narrow(0, first_out(i), out_of(i))
        .narrow(1, first_rank(i), rank_of(i))
        .copy_(lora.b.mul(lora.scale));
  }
}

LinearBorder::Operands LinearBorder::operands(const std::vector<LinearPart>& parts) {
  const at::NoGradGuard guard;
  if (!kept_.a.defined()) {
    const at::Device device = parts[0].w.quantized->codes.device();
    const Operands made = operands_of(ops::empty({out_ + rank_, in_ + rank_}, dtype_, device));
    for (size_t i = 0; i < parts.size(); ++i)
      dequantize(*parts[i].w.quantized,
                 made.m.narrow(0, first_out(i), out_of(i)).narrow(1, 0, in_));
    write_adapters(parts, made);
    return made;
  }
  std::vector<std::pair<uint64_t, int64_t>> stamps;
  for (const LinearPart& p : parts) stamps.push_back(p.lora.stamp());
  if (stamps != stamps_) {
    write_adapters(parts, kept_);
    stamps_ = std::move(stamps);
  }
  return kept_;
}

Tensor with_spare(const std::vector<Tensor>& columns, int64_t spare) {
  const Tensor& first = columns[0];
  int64_t width = 0;
  for (const Tensor& c : columns) width += c.size(1);
  const int64_t rows = first.size(0), stride = first.stride(0);
  bool fits = stride == width + spare && first.storage_offset() % stride == 0 &&
              first.storage_offset() + rows * stride <=
                  static_cast<int64_t>(first.storage().nbytes()) / first.element_size();
  int64_t offset = first.storage_offset();
  for (const Tensor& c : columns) {
    fits = fits && c.is_alias_of(first) && c.storage_offset() == offset && c.stride(0) == stride &&
           c.stride(1) == 1;
    offset += c.size(1);
  }
  if (fits) return ops::over(first, first.storage_offset(), rows, width + spare, stride);
  const Tensor wide = ops::empty({rows, width + spare}, first.scalar_type(), first.device());
  offset = 0;
  for (const Tensor& c : columns) {
    wide.narrow(1, offset, c.size(1)).copy_(c);
    offset += c.size(1);
  }
  return wide;
}

// The group's halves that go this way.

std::vector<Tensor> LinearGroup::forward_bordered(const Tensor& x, const Float8Rows* rounded) {
  const int64_t in = border_->in(), out = border_->out(), N = x.size(0), spare = border_->spare();
  const LinearBorder::Operands m = border_->operands(parts_);
  Tensor y;
  if (border_->is_float8()) {
    const Tensor down = x.mm(m.a.t());
    y = multiply_float8(rounded ? *rounded : to_float8(x), border_->rows());
    y.addmm_(down, m.b.t());
    if (any_needs(kB)) border_down_ = down;
  } else {
    const Tensor wide = with_spare({x}, spare), down = wide.narrow(1, in, spare);
    ops::mm_out(down, x, m.a.t());
    y = ops::empty({N, out + spare}, x.scalar_type(), x.device());
    ops::mm_out(y.narrow(1, 0, out), wide, m.m.narrow(0, 0, out).t());
    // Behind x it stays as long as x does; a copy of x goes.
    if (any_needs(kB)) border_down_ = wide.is_alias_of(x) ? down : down.clone();
  }
  std::vector<Tensor> outputs;
  for (size_t i = 0; i < parts_.size(); ++i) {
    outputs.push_back(ops::over(y, border_->first_out(i), N, border_->out_of(i), out + spare));
    if (parts_[i].bias.defined()) outputs.back().add_(parts_[i].bias);
  }
  return outputs;
}

Tensor LinearGroup::input_gradient_bordered(const std::vector<Tensor>& dys, bool wanted,
                                            const Float8Rows* rounded) {
  const int64_t in = border_->in(), out = border_->out(), spare = border_->spare();
  const LinearBorder::Operands m = border_->operands(parts_);
  const Tensor wide = with_spare(dys, spare);
  border_dy_ = wide.narrow(1, 0, out);
  if (border_->is_float8()) {
    border_gb_ = border_dy_.mm(m.b);
    if (!wanted) return {};
    const Tensor dx =
        multiply_float8(rounded ? *rounded : to_float8(border_dy_), border_->columns());
    dx.addmm_(border_gb_, m.a);
    return dx;
  }
  border_gb_ = wide.narrow(1, out, spare);
  ops::mm_out(border_gb_, border_dy_, m.b);
  return wanted ? wide.mm(m.m.narrow(1, 0, in)) : Tensor();
}

void LinearGroup::gradients_bordered(const Tensor& x, std::vector<Tensor>& grads) {
  Tensor all_a;  // [rank, in]
  if (any_needs(kA)) all_a = ops::mm_float(border_gb_.t(), x);
  for (size_t i = 0; i < parts_.size(); ++i) {
    Tensor* grad = &grads[i * kInputs];
    const Tensor dy = border_dy_.narrow(1, border_->first_out(i), border_->out_of(i));
    const LoraOperands& lora = parts_[i].lora;
    if (needs(i, kBias)) grad[kBias] = dy.sum(0);
    if (needs(i, kA))
      grad[kA] =
          all_a.narrow(0, border_->first_rank(i), border_->rank_of(i)).to(lora.a.scalar_type());
    if (needs(i, kB)) {
      const Tensor down = border_down_.narrow(1, border_->first_rank(i), border_->rank_of(i));
      grad[kB] = ops::mm_float(dy.t(), down).to(lora.b.scalar_type());
      if (lora.scale != 1) grad[kB].mul_(lora.scale);
    }
  }
  border_dy_ = border_gb_ = border_down_ = Tensor();
}

}  // namespace ft
