// RMSNorm. The backward pass computes the inverse root mean square again from x: cheaper than
// keeping it.
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/mode.h"

namespace ft {
namespace {

Tensor reference(const Tensor& x, const Tensor& w, const NormSettings& n) {
  const Tensor wide = x.to(wide_dtype(x));
  const Tensor normed = wide.mul(wide.square().mean(-1, /*keepdim=*/true).add(n.eps).rsqrt());
  if (n.adds_one) return normed.mul(w.to(wide.scalar_type()).add(1)).to(x.scalar_type());
  return normed.to(x.scalar_type()).mul(w);
}

Tensor forward(const Tensor& x, const Tensor& w, const NormSettings& n) {
  Tensor y = ops::empty_like(x);
  if (x.is_cuda()) {
    const int64_t width = x.size(-1);
    const cuda::RmsNorm p{cuda::dtype_of(x),  x.numel() / width,  width,
                          cpu::data<void>(x), cpu::data<void>(w), static_cast<float>(n.eps),
                          n.adds_one,         cpu::data<void>(y)};
    cuda::check_launch(cuda::rms_norm(p, nullptr), "rms_norm");
    return y;
  }
  cpu::for_rows(x, x.size(-1), [&](auto* t, cpu::RowRange r) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::rms_norm<T>(r, cpu::data<T>(x), cpu::data<T>(w), cpu::data<T>(y),
                     static_cast<float>(n.eps), n.adds_one);
  });
  return y;
}

void backward_cuda(const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& dx,
                   const Tensor& dw, const NormSettings& n) {
  const int64_t width = x.size(-1);
  Tensor partial;
  if (dw.defined()) partial = ops::empty({cuda::kNormPartials, width}, at::kFloat, x.device());
  const cuda::RmsNormBackward p{cuda::dtype_of(x),
                                x.numel() / width,
                                width,
                                cpu::data<void>(dy),
                                cpu::data<void>(x),
                                cpu::data<void>(w),
                                static_cast<float>(n.eps),
                                n.adds_one,
                                cpu::data<void>(dx),
                                cpu::data<float>(dw),
                                cpu::data<float>(partial)};
  cuda::check_launch(cuda::rms_norm_backward(p, nullptr), "rms_norm backward");
}

void backward_loops(const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& dx,
                    const Tensor& dw, const NormSettings& n) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  cpu::with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    const auto run = [&](int64_t begin, int64_t end) {
      cpu::rms_norm_backward<T>({begin, end, width}, cpu::data<T>(dy), cpu::data<T>(x),
                                cpu::data<T>(w), cpu::data<T>(dx), cpu::data<float>(dw),
                                static_cast<float>(n.eps), n.adds_one);
    };
    // dw is one sum over all rows: in order on one thread, so that it does not depend on their
    // number.
    if (dw.defined()) {
      run(0, rows);
    } else {
      cpu::parallel_rows(rows, width, run);
    }
  });
}

std::vector<Tensor> backward(const Tensor& grad, const Saved& saved, const NormSettings& n) {
  const Tensor &x = saved.tensors[0], &w = saved.tensors[1];
  const Tensor dy = grad.contiguous();
  Tensor dx = ops::empty_like(x), dw;
  if (saved.needs[1]) dw = ops::zeros({x.size(-1)}, at::kFloat, x.device());
  (x.is_cuda() ? backward_cuda : backward_loops)(dy, x, w, dx, dw, n);
  return {saved.needs[0] ? dx : Tensor(), dw.defined() ? dw.to(w.scalar_type()) : Tensor()};
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& w, const NormSettings& settings) {
  check_shape(w, "rms_norm weight", {x.size(-1)});
  const bool fused = (use_cpu_loops(x) || use_cuda_kernels(x)) &&
                     w.scalar_type() == x.scalar_type() && w.is_contiguous();
  if (!fused) return reference(x, w, settings);
  return apply(
      {x, w},
      [&](Saved& saved) {
        saved.tensors = {x, w};
        return forward(x, w, settings);
      },
      [settings](const Tensor& grad, const Saved& saved) {
        return backward(grad, saved, settings);
      });
}

}  // namespace ft
