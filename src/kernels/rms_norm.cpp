// RMSNorm and the sum before it. The backward pass computes the inverse root mean square again from
// what was normed: cheaper than keeping it.
#include "base/error.h"
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/mode.h"

namespace ft {
namespace {

Tensor norm_plainly(const Tensor& x, const Tensor& w, const NormSettings& n) {
  const Tensor wide = x.to(wide_dtype(x));
  const Tensor normed = wide.mul(wide.square().mean(-1, /*keepdim=*/true).add(n.eps).rsqrt());
  if (n.adds_one) return normed.mul(w.to(wide.scalar_type()).add(1)).to(x.scalar_type());
  return normed.to(x.scalar_type()).mul(w);
}

int64_t rows_of(const Tensor& x) {
  return x.numel() / x.size(-1);
}

/// x, y, weight of y, w; sum and out, each where it exists.
struct Operands {
  Tensor x, y, y_weight, w, sum, out;
};

void forward(const Operands& t, const NormSettings& n) {
  const auto eps = static_cast<float>(n.eps);
  if (is_on_cuda(t.x)) {
    const cuda::ResidualNorm p{.dtype = cuda::dtype_of(t.x),
                               .rows = rows_of(t.x),
                               .width = t.x.size(-1),
                               .x = cuda::rows(t.x),
                               .y = cuda::rows(t.y),
                               .y_weight = cpu::data<void>(t.y_weight),
                               .w = cpu::data<void>(t.w),
                               .eps = eps,
                               .adds_one = n.adds_one,
                               .sum = cuda::rows(t.sum),
                               .out = cuda::rows(t.out)};
    return cuda::run("residual_norm", cuda::residual_norm, p,
                     {t.x, t.y, t.y_weight, t.w, t.sum, t.out});
  }
  cpu::for_rows(t.x, t.x.size(-1), [&](auto* type, cpu::RowRange r) {
    using T = std::remove_pointer_t<decltype(type)>;
    cpu::residual_norm<T>(
        r, {cpu::data<T>(t.x), cpu::data<T>(t.y), cpu::data<T>(t.y_weight), cpu::data<T>(t.w),
            cpu::data<T>(t.sum), cpu::data<T>(t.out), eps, n.adds_one});
  });
}

/// What the backward pass reads (dsum or dout, sum, w; y and its weight where it was normed) and
/// writes; the weights' gradients are float32.
struct Gradients {
  Tensor dsum, dout, sum, w, y, y_weight, dx, dy, dw, dy_weight;
};

void backward_cuda(const Gradients& g, const NormSettings& n) {
  const int64_t width = g.dx.size(-1);
  const auto partial = [&](const Tensor& dw) {
    return dw.defined() ? ops::empty({cuda::kNormPartials, width}, at::kFloat, dw.device())
                        : Tensor();
  };
  const Tensor of_w = partial(g.dw), of_y = partial(g.dy_weight);
  const cuda::ResidualNormBackward p{.dtype = cuda::dtype_of(g.dx),
                                     .rows = rows_of(g.dx),
                                     .width = width,
                                     .dsum = cuda::rows(g.dsum),
                                     .dout = cuda::rows(g.dout),
                                     .sum = cuda::rows(g.sum),
                                     .y = cuda::rows(g.y),
                                     .w = cpu::data<void>(g.w),
                                     .y_weight = cpu::data<void>(g.y_weight),
                                     .eps = static_cast<float>(n.eps),
                                     .adds_one = n.adds_one,
                                     .dx = cuda::rows(g.dx),
                                     .dy = cuda::rows(g.dy),
                                     .dw = cpu::data<float>(g.dw),
                                     .dy_weight = cpu::data<float>(g.dy_weight),
                                     .partial = cpu::data<float>(of_w),
                                     .y_partial = cpu::data<float>(of_y)};
  cuda::run("residual_norm backward", cuda::residual_norm_backward, p,
            {g.dx, g.dsum, g.dout, g.sum, g.y, g.w, g.y_weight, g.dy, g.dw, g.dy_weight},
            1 + int64_t{g.dw.defined()} + int64_t{g.dy_weight.defined()});
}

void backward_loops(const Gradients& g, const NormSettings& n) {
  const int64_t width = g.dx.size(-1), rows = rows_of(g.dx);
  cpu::with_type(g.dx, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const cpu::ResidualNormBackward<T> p{cpu::data<T>(g.dsum),      cpu::data<T>(g.dout),
                                         cpu::data<T>(g.sum),       cpu::data<T>(g.w),
                                         cpu::data<T>(g.y),         cpu::data<T>(g.y_weight),
                                         cpu::data<T>(g.dx),        cpu::data<T>(g.dy),
                                         cpu::data<float>(g.dw),    cpu::data<float>(g.dy_weight),
                                         static_cast<float>(n.eps), n.adds_one};
    const auto run = [&](int64_t begin, int64_t end) {
      cpu::residual_norm_backward<T>({begin, end, width}, p);
    };
    // A weight's gradient is one sum over all rows: in order on one thread, so that it does not
    // depend on their number.
    if (g.dw.defined() || g.dy_weight.defined()) {
      run(0, rows);
    } else {
      cpu::parallel_rows(rows, width, run);
    }
  });
}

/// The loops take dense rows, the kernels matrices with rows of any stride.
bool has_rows(const Tensor& t) {
  return t.is_contiguous() || (!t.is_cpu() && t.dim() == 2 && t.stride(1) == 1);
}

/// Weights have the activations' dtype.
bool is_fused(const Tensor& x, std::initializer_list<Tensor> rows,
              std::initializer_list<Tensor> weights) {
  if (!use_cpu_loops(x) && !(is_on_cuda(x) && has_rows(x))) return false;
  for (const Tensor& t : rows)
    if (t.defined() && !has_rows(t)) return false;
  for (const Tensor& w : weights)
    if (w.defined() && (w.scalar_type() != x.scalar_type() || !w.is_contiguous())) return false;
  return true;
}

Tensor dense(const Tensor& t) {
  return !t.defined() || has_rows(t) ? t : t.contiguous();
}

/// needs: of x, y, weight of y, w. g: what is read.
std::vector<Tensor> backward(Gradients g, const std::vector<bool>& needs, int64_t spare,
                             const NormSettings& n) {
  g.dsum = dense(g.dsum);
  g.dout = dense(g.dout);
  if (!g.dsum.defined() && !g.dout.defined()) return std::vector<Tensor>(4);
  const Tensor& like = g.dout.defined() ? g.dout : g.dsum;
  const auto zeros = [&](bool needed) {
    return needed ? ops::zeros({like.size(-1)}, at::kFloat, like.device()) : Tensor();
  };
  g.dw = zeros(needs[3] && g.dout.defined());
  g.dy_weight = zeros(needs[2]);
  const bool norms_y = g.y.defined();
  g.dx = g.dout.defined() ? empty_rows(like.sizes(), norms_y ? 0 : spare, like) : g.dsum;
  if (norms_y) g.dy = empty_rows(like.sizes(), spare, like);
  if (g.dout.defined() || norms_y) (like.is_cpu() ? backward_loops : backward_cuda)(g, n);
  const auto as = [](const Tensor& dw, const Tensor& w) {
    return dw.defined() ? dw.to(w.scalar_type()) : Tensor();
  };
  return {needs[0] ? g.dx : Tensor(),
          !needs[1] ? Tensor()
          : norms_y ? g.dy
                    : g.dx,
          as(g.dy_weight, g.y_weight), as(g.dw, g.w)};
}

}  // namespace

Tensor empty_rows(at::IntArrayRef sizes, int64_t spare, const Tensor& like) {
  if (spare == 0) return ops::empty(sizes, like.scalar_type(), like.device());
  FT_INVARIANT(sizes.size() == 2);
  const Tensor wide = ops::empty({sizes[0], sizes[1] + spare}, like.scalar_type(), like.device());
  return ops::over(wide, 0, sizes[0], sizes[1], sizes[1] + spare);
}

SumAndNorm residual_norm(const Tensor& x, const Tensor& y, const Tensor& y_weight, const Tensor& w,
                         const NormSettings& settings, const SpareColumns& spare) {
  const int64_t C = x.size(-1);
  if (y.defined()) check_shape(y, "residual_norm addend", {x.size(0), C});
  for (const Tensor& weight : {y_weight, w})
    if (weight.defined()) check_shape(weight, "norm weight", {C});
  if (!is_fused(x, {y}, {y_weight, w})) {
    const Tensor added = y_weight.defined() ? norm_plainly(y, y_weight, settings) : y;
    const Tensor sum = y.defined() ? x.add(added) : x;
    return {sum, w.defined() ? norm_plainly(sum, w, settings) : Tensor()};
  }
  const auto outputs = apply_many(
      {x, y, y_weight, w},
      [&](Saved& saved) -> std::vector<Tensor> {
        Operands t{x, y, y_weight, w, {}, {}};
        if (y.defined()) t.sum = ops::empty(x.sizes(), x.scalar_type(), x.device());
        if (w.defined()) t.out = empty_rows(x.sizes(), spare.of_norm, x);
        forward(t, settings);
        saved.tensors = {w.defined() ? (y.defined() ? t.sum : x) : Tensor(), w,
                         y_weight.defined() ? y : Tensor(), y_weight};
        // x itself is an output too: the two shares of its gradient are added here, in float32.
        std::vector<Tensor> result = {y.defined() ? t.sum : x};
        if (w.defined()) result.push_back(t.out);
        return result;
      },
      [settings, norms = w.defined(), spare = spare.of_gradient](const std::vector<Tensor>& grads,
                                                                 const Saved& saved) {
        Gradients g;
        g.sum = saved.tensors[0];
        g.w = saved.tensors[1];
        g.y = saved.tensors[2];
        g.y_weight = saved.tensors[3];
        g.dsum = grads[0];
        if (norms) g.dout = grads[1];
        return backward(std::move(g), saved.needs, spare, settings);
      });
  return {outputs[0], w.defined() ? outputs[1] : Tensor()};
}

void rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& w,
                       const NormSettings& settings, const Tensor& dx, const Tensor& dw) {
  Gradients g;
  g.dout = dy;
  g.sum = x;
  g.w = w;
  g.dx = dx;
  g.dw = dw;
  backward_loops(g, settings);
}

Tensor rms_norm(const Tensor& x, const Tensor& w, const NormSettings& settings) {
  check_shape(w, "rms_norm weight", {x.size(-1)});
  return residual_norm(x, {}, {}, w, settings).norm;
}

}  // namespace ft
