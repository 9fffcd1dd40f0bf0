// RMSNorm. The backward pass computes the inverse root mean square again from x: cheaper than
// keeping it.
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/mode.h"

namespace ft {
namespace {

Tensor reference(const Tensor& x, const Tensor& w, double eps) {
  const Tensor wide = x.to(at::kFloat);
  const Tensor normed = wide.mul(wide.square().mean(-1, /*keepdim=*/true).add(eps).rsqrt());
  return normed.to(x.scalar_type()).mul(w);
}

Tensor forward_loops(const Tensor& x, const Tensor& w, double eps) {
  Tensor y = ops::empty_like(x);
  cpu::for_rows(x, x.size(-1), [&](auto* t, cpu::RowRange r) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::rms_norm<T>(r, cpu::data<T>(x), cpu::data<T>(w), cpu::data<T>(y), static_cast<float>(eps));
  });
  return y;
}

std::vector<Tensor> backward_loops(const Tensor& grad, const Saved& saved, double eps) {
  const Tensor &x = saved.tensors[0], &w = saved.tensors[1];
  const Tensor dy = grad.contiguous();
  Tensor dx = ops::empty_like(x), dw;
  const int64_t width = x.size(-1), rows = x.numel() / width;
  if (saved.needs[1]) dw = ops::zeros({width}, at::kFloat);
  cpu::with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    const auto run = [&](int64_t begin, int64_t end) {
      cpu::rms_norm_backward<T>({begin, end, width}, cpu::data<T>(dy), cpu::data<T>(x),
                                cpu::data<T>(w), cpu::data<T>(dx), cpu::data<float>(dw),
                                static_cast<float>(eps));
    };
    // dw is one sum over all rows: in order on one thread, so that it does not depend on their
    // number.
    if (dw.defined()) {
      run(0, rows);
    } else {
      cpu::parallel_rows(rows, width, run);
    }
  });
  return {saved.needs[0] ? dx : Tensor(), dw.defined() ? dw.to(w.scalar_type()) : Tensor()};
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& w, double eps) {
  check_shape(w, "rms_norm weight", {x.size(-1)});
  if (!use_cpu_loops(x) || w.scalar_type() != x.scalar_type()) return reference(x, w, eps);
  return apply(
      {x, w},
      [&](Saved& saved) {
        saved.tensors = {x, w};
        return forward_loops(x, w, eps);
      },
      [eps](const Tensor& grad, const Saved& saved) { return backward_loops(grad, saved, eps); });
}

}  // namespace ft
