// The output head and its loss, a chunk of rows at a time. While a chunk's logits are at hand they
// are overwritten by their gradient (softmax - onehot), from which the chunk's share of dH and dW
// follows; the backward pass only scales. The idea of computing gradients in the forward pass is
// Liger Kernel's (Hsu et al. 2024), the overwriting llm.c's.
#include <algorithm>

#include "base/error.h"
#include "data/batch.h"
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/matrix_unit.h"
#include "kernels/mode.h"

namespace ft {
namespace {

constexpr int64_t kRowMultiple =
    64;  // oneDNN compiles and keeps its products per shape: few shapes on the CPU

/// Rows a chunk: enough for the product to run at speed, as long as its logits stay small. The
/// matrix unit makes nothing beside them, and so may have more; but a soft cap needs them twice,
/// and `more` stands for a gradient of w.
int64_t chunk_rows(const Tensor& h, const Tensor& w, bool more) {
  const int64_t limit = int64_t{!h.is_cpu()                   ? 192
                                : use_matrix_unit(h) && !more ? 128
                                                              : 64}
                        << 20,
                most = h.is_cpu() ? 1024 : 4096;
  const int64_t fitting = limit / (w.size(0) * h.element_size());
  return std::clamp<int64_t>(fitting / kRowMultiple * kRowMultiple, kRowMultiple, most);
}

/// Losses of logits [n, V]; with `overwrite` they become d loss / d logits, else what is in them
/// then is undefined.
Tensor row_losses(Tensor& logits, const Tensor& targets, bool overwrite) {
  const int64_t n = logits.size(0), V = logits.size(1);
  if (use_cpu_loops(logits)) {
    Tensor losses = ops::empty({n}, at::kFloat);
    cpu::for_rows(logits, V, [&](auto* t, cpu::RowRange r) {
      using T = std::remove_pointer_t<decltype(t)>;
      cpu::cross_entropy<T>(r, cpu::data<T>(logits), cpu::data<int64_t>(targets),
                            cpu::data<float>(losses), overwrite);
    });
    return losses;
  }
  if (use_cuda_kernels(logits)) {
    Tensor losses = ops::empty({n}, at::kFloat, logits.device());
    const cuda::CrossEntropy p{
        cuda::dtype_of(logits),   n,        V, cpu::data<void>(logits), cpu::data<int64_t>(targets),
        cpu::data<float>(losses), overwrite};
    // The row is read twice and written once.
    cuda::run(
        "cross_entropy", cuda::cross_entropy, p,
        {logits, targets, losses, overwrite ? logits : Tensor(), overwrite ? logits : Tensor()});
    return losses;
  }
  Tensor p = logits.to(wide_dtype(logits)).log_softmax(-1);
  const Tensor at_target = targets.unsqueeze(1);
  const Tensor losses = p.gather(1, at_target).squeeze(1).neg();
  if (overwrite)
    logits = p.exp_()
                 .scatter_add_(1, at_target, ops::full({n, 1}, -1, p.scalar_type(), p.device()))
                 .to(logits.scalar_type());
  return losses;
}

/// Losses of rows h [n, C]; with `overwrite` also d loss / d (h W^T) in `logits`.
Tensor chunk_losses(const Tensor& h, const Tensor& w, const Tensor& targets, double softcap,
                    bool overwrite, Tensor& logits) {
  logits = Tensor();  // the last chunk's go before there are new ones
  logits = soft_cap(multiply({{Packed(h), {w, true}}}), softcap);  // [n, V]
  if (softcap == 0 || !overwrite) return row_losses(logits, targets, overwrite);
  // d cap tanh(l / cap) / dl = 1 - tanh^2
  const Tensor slope = logits.div(softcap).square_().neg_().add_(1);
  const Tensor losses = row_losses(logits, targets, true);
  logits.mul_(slope);
  return losses;
}

/// Sum of losses; fills dh [N, C] and dw (float32 sums, then w's dtype) when they are defined.
Tensor loss_and_gradients(const Tensor& h, const Tensor& w, const Targets& s, double softcap,
                          Tensor& dh, Tensor& dw) {
  const int64_t n = s.rows.size(0), step = chunk_rows(h, w, softcap != 0 || dw.defined());
  // Not n, which filled up may be as many as there are rows of h without being the same ones.
  const bool all = s.is_in_order || s.count == h.size(0), gradients = dh.defined() || dw.defined();
  Tensor total = ops::zeros({}, at::kDouble, h.device()), logits;
  for (int64_t begin = 0; begin < s.count; begin += step) {
    const int64_t count = std::min(step, n - begin), real = std::min(count, s.count - begin);
    const Tensor rows = s.rows.narrow(0, begin, count);
    const Tensor part = all ? h.narrow(0, begin, count) : ops::take_rows(h, rows);
    const Tensor losses = chunk_losses(part, w, s.values.narrow(0, begin, count).contiguous(),
                                       softcap, gradients, logits);
    total.add_(losses.narrow(0, 0, real).to(at::kDouble).sum());
    if (gradients && real < count) logits.narrow(0, real, count - real).zero_();
    if (dh.defined())
      dh.index_copy_(0, rows.narrow(0, 0, real),
                     multiply({{Packed(logits), {w}}}).narrow(0, 0, real));
    if (dw.defined()) dw.add_(multiply({{Packed(logits, true), {part}}}, {}, wide_dtype(w)));
  }
  return total.to(wide_dtype(h));
}

}  // namespace

Tensor soft_cap(const Tensor& x, double cap) {
  return cap == 0 ? x : x.div(cap).tanh_().mul(cap);
}

/// On the CPU the list is filled up to a multiple of 64 by repeating its last row: oneDNN compiles
/// and keeps its products per shape.
Targets make_targets(const std::vector<int64_t>& targets, at::Device device) {
  std::vector<int64_t> rows, values;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] == kIgnore) continue;
    rows.push_back(static_cast<int64_t>(i));
    values.push_back(targets[i]);
  }
  const auto count = static_cast<int64_t>(rows.size()),
             total = static_cast<int64_t>(targets.size());
  if (device.is_cpu() && count > 0 && count < total)
    while (rows.size() % kRowMultiple != 0) {
      rows.push_back(rows.back());
      values.push_back(values.back());
    }
  return {ops::from_vector(rows, device), ops::from_vector(values, device), count, total, false};
}

Tensor take_targets(const Tensor& x, const Targets& targets) {
  return apply(
      {x}, [&](Saved&) { return ops::take_rows(x, targets.rows); },
      [targets](const Tensor& grad, const Saved&) -> std::vector<Tensor> {
        Tensor dx = ops::zeros({targets.num_rows, grad.size(1)}, grad.scalar_type(), grad.device());
        dx.index_copy_(0, targets.rows.narrow(0, 0, targets.count),
                       grad.narrow(0, 0, targets.count));
        return {dx};
      });
}

Targets targets_of_taken(const Targets& t) {
  const int64_t n = t.rows.size(0);
  return {ops::arange(n, at::kLong, t.rows.device()), t.values, t.count, n, true};
}

Tensor linear_cross_entropy(const Tensor& h, const Tensor& w, const Targets& targets,
                            double softcap) {
  FT_INVARIANT(targets.num_rows == h.size(0));
  check_shape(w, "head weight", {-1, h.size(1)});
  return apply(
      {h, w},
      [&](Saved& saved) {
        const Tensor cast_w = w.to(h.scalar_type());
        Tensor dh, dw;
        if (saved.needs[0]) dh = ops::zeros(h.sizes(), h.scalar_type(), h.device());
        if (saved.needs[1]) dw = ops::zeros(w.sizes(), wide_dtype(w), w.device());
        const Tensor loss = loss_and_gradients(h.contiguous(), cast_w, targets, softcap, dh, dw);
        saved.tensors = {dh, dw.defined() ? dw.to(w.scalar_type()) : dw};
        return loss;
      },
      [](const Tensor& grad, const Saved& saved) -> std::vector<Tensor> {
        // In place: the op's own tensors, of which this is the only use, and [V, C] is large.
        const auto scaled = [&](Tensor g) {
          return g.defined() ? g.mul_(grad.to(g.scalar_type())) : g;
        };
        return {scaled(saved.tensors[0]), scaled(saved.tensors[1])};
      });
}

Tensor token_losses(const Tensor& h, const Tensor& w, const Targets& s, double softcap) {
  at::NoGradGuard guard;
  const Tensor cast_w = w.to(h.scalar_type());
  const int64_t n = s.rows.size(0), step = chunk_rows(h, w, softcap != 0);
  Tensor losses = ops::zeros({h.size(0)}, wide_dtype(h), h.device()), logits;
  for (int64_t begin = 0; begin < s.count; begin += step) {
    const int64_t count = std::min(step, n - begin), real = std::min(count, s.count - begin);
    const Tensor rows = s.rows.narrow(0, begin, count);
    const Tensor part =
        chunk_losses(ops::take_rows(h, rows), cast_w, s.values.narrow(0, begin, count).contiguous(),
                     softcap, false, logits);
    losses.index_copy_(0, rows.narrow(0, 0, real), part.narrow(0, 0, real));
  }
  return losses;
}

}  // namespace ft
