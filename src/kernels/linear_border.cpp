#include "kernels/linear_border.h"

#include "base/error.h"
#include "kernels/dispatch.h"
#include "kernels/mode.h"

namespace ft {
namespace {

bool has_adapter(const LinearPart& p) {
  return p.lora.a.defined();
}

}  // namespace

LinearBorder::LinearBorder(const std::vector<LinearPart>& parts,
                           const std::vector<Tensor*>& weights, at::ScalarType dtype)
    : dtype_(dtype), in_(parts[0].w.in_features()) {
  const at::NoGradGuard guard;
  for (const LinearPart& p : parts) {
    outs_.push_back(out_ += p.w.out());
    ranks_.push_back(rank_ += has_adapter(p) ? p.lora.a.size(0) : 0);
  }
  for (const LinearPart& p : parts)
    if (p.w.quantized) return;
  matrix_ = ops::empty({out_ + rank_, in_ + rank_}, dtype, parts[0].w.dense.device());
  for (size_t i = 0; i < parts.size(); ++i) {
    const Tensor place = matrix_.narrow(0, first_out(i), out_of(i)).narrow(1, 0, in_);
    place.copy_(*weights[i]);
    *weights[i] = place;
  }
}

bool LinearBorder::can_hold(const LinearPart& p) {
  const bool is_trained = p.w.dense.defined() && p.w.dense.requires_grad();
  return !is_trained && p.lora.dropout == 0 && !p.magnitude.defined();
}

bool LinearBorder::takes(const std::vector<LinearPart>& parts) const {
  if (parts.size() + 1 != outs_.size() || kernel_mode() == KernelMode::kReference) return false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t rank = has_adapter(parts[i]) ? parts[i].lora.a.size(0) : 0;
    if (!can_hold(parts[i]) || rank != rank_of(i) ||
        bool{parts[i].w.quantized} == matrix_.defined())
      return false;
  }
  return rank_ > 0;
}

void LinearBorder::write_adapters(const std::vector<LinearPart>& parts,
                                  const Tensor& matrix) const {
  if (!matrix.is_cpu()) {
    FT_INVARIANT(parts.size() <= cuda::Border::kMaxParts);
    cuda::Border p{.dtype = cuda::dtype_of(dtype_),
                   .adapter_dtype = cuda::dtype_of(at::kFloat),
                   .parts = static_cast<int64_t>(parts.size()),
                   .in = in_,
                   .out = out_,
                   .stride = matrix.stride(0),
                   .outs = {},
                   .ranks = {},
                   .a = {},
                   .b = {},
                   .scales = {},
                   .matrix = cpu::data<void>(matrix)};
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
    return cuda::run(
        "linear_border", cuda::border, p,
        {matrix.narrow(0, out_, rank_), matrix.narrow(0, 0, out_).narrow(1, in_, rank_)});
  }
  matrix.narrow(1, in_, rank_).zero_();
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!has_adapter(parts[i])) continue;
    const LoraOperands& lora = parts[i].lora;
    matrix.narrow(0, out_ + first_rank(i), rank_of(i)).narrow(1, 0, in_).copy_(lora.a);
    matrix.narrow(0, first_out(i), out_of(i))
        .narrow(1, in_ + first_rank(i), rank_of(i))
        .copy_(lora.b.mul(lora.scale));
  }
}

Tensor LinearBorder::matrix(const std::vector<LinearPart>& parts) {
  const at::NoGradGuard guard;
  if (!matrix_.defined()) {
    const at::Device device = parts[0].w.quantized->codes.device();
    const Tensor made = ops::empty({out_ + rank_, in_ + rank_}, dtype_, device);
    for (size_t i = 0; i < parts.size(); ++i)
      dequantize(*parts[i].w.quantized, made.narrow(0, first_out(i), out_of(i)).narrow(1, 0, in_));
    write_adapters(parts, made);
    return made;
  }
  std::vector<std::pair<uint64_t, int64_t>> stamps;
  for (const LinearPart& p : parts) stamps.push_back(p.lora.stamp());
  if (stamps != stamps_) {
    write_adapters(parts, matrix_);
    stamps_ = std::move(stamps);
  }
  return matrix_;
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

std::vector<Tensor> LinearGroup::forward_bordered(const Tensor& x) {
  const int64_t in = border_->in(), out = border_->out(), rank = border_->rank(), N = x.size(0);
  const Tensor m = border_->matrix(parts_), wide = with_spare({x}, rank);
  const Tensor down = wide.narrow(1, in, rank);
  ops::mm_out(down, x, m.narrow(0, out, rank).narrow(1, 0, in).t());
  const Tensor y = ops::empty({N, out + rank}, x.scalar_type(), x.device());
  ops::mm_out(y.narrow(1, 0, out), wide, m.narrow(0, 0, out).t());
  // Behind x it stays as long as x does; a copy of x goes.
  if (any_needs(kB)) border_down_ = wide.is_alias_of(x) ? down : down.clone();
  std::vector<Tensor> outputs;
  for (size_t i = 0; i < parts_.size(); ++i) {
    outputs.push_back(ops::over(y, border_->first_out(i), N, border_->out_of(i), out + rank));
    if (parts_[i].bias.defined()) outputs.back().add_(parts_[i].bias);
  }
  return outputs;
}

Tensor LinearGroup::input_gradient_bordered(const std::vector<Tensor>& dys, bool wanted) {
  const int64_t in = border_->in(), out = border_->out(), rank = border_->rank();
  const Tensor m = border_->matrix(parts_);
  border_grads_ = with_spare(dys, rank);
  ops::mm_out(border_grads_.narrow(1, out, rank), border_grads_.narrow(1, 0, out),
              m.narrow(0, 0, out).narrow(1, in, rank));
  return wanted ? border_grads_.mm(m.narrow(1, 0, in)) : Tensor();
}

void LinearGroup::gradients_bordered(const Tensor& x, std::vector<Tensor>& grads) {
  const int64_t out = border_->out(), rank = border_->rank();
  Tensor all_a;  // [rank, in]
  if (any_needs(kA)) all_a = ops::mm_float(border_grads_.narrow(1, out, rank).t(), x);
  for (size_t i = 0; i < parts_.size(); ++i) {
    Tensor* grad = &grads[i * kInputs];
    const Tensor dy = border_grads_.narrow(1, border_->first_out(i), border_->out_of(i));
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
}

}  // namespace ft
