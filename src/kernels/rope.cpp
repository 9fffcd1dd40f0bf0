// Rotary position embedding (Su et al. 2021) in the "rotate half" layout of the published
// checkpoints, for queries and keys together and with the norm that some families put before it.
// The rotation is linear and orthogonal: the backward pass is the rotation by the negative angle
// and keeps nothing of what was rotated.
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/mode.h"

namespace ft {
namespace {

Tensor reference(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  const Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);  // [N, 1, D/2]
  const Tensor x1 = x.narrow(-1, 0, half).to(wide_dtype(x)),
               x2 = x.narrow(-1, half, half).to(wide_dtype(x));
  return ops::cat({x1.mul(c).sub(x2.mul(s)), x2.mul(c).add(x1.mul(s))}, -1).to(x.scalar_type());
}

/// y may be x.
void rotate_loops(const Tensor& x, const Tensor& y, const Rotation& r, float sign) {
  cpu::for_rows(x, x.size(-1), [&](auto* t, cpu::RowRange range) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::rope<T>(range, x.size(1), cpu::data<T>(x), cpu::data<float>(r.cos),
                 cpu::data<float>(r.sin), cpu::data<T>(y), sign);
  });
}

/// Rows of a token: its heads lie end to end.
cuda::Rows token_rows(const Tensor& t) {
  if (!t.defined()) return {};
  FT_INVARIANT(t.stride(2) == 1 && t.stride(1) == t.size(2));
  return {cpu::data<void>(t), t.stride(0)};
}

cuda::QkRope arguments(const QueriesAndKeys& in, const HeadNorms& norms, const Rotation& r,
                       const QueriesAndKeys& out) {
  return {.dtype = cuda::dtype_of(in.q),
          .tokens = in.q.size(0),
          .q_heads = in.q.size(1),
          .k_heads = in.k.defined() ? in.k.size(1) : 0,
          .head_size = in.q.size(2),
          .q = token_rows(in.q),
          .k = token_rows(in.k),
          .q_weight = cpu::data<void>(norms.q_weight),
          .k_weight = cpu::data<void>(norms.k_weight),
          .eps = static_cast<float>(norms.settings.eps),
          .adds_one = norms.settings.adds_one,
          .cos = cpu::data<float>(r.cos),
          .sin = cpu::data<float>(r.sin),
          .q_out = token_rows(out.q),
          .k_out = token_rows(out.k)};
}

}  // namespace

QueriesAndKeys rotate(const QueriesAndKeys& in, const HeadNorms& norms, const Rotation& r) {
  const at::NoGradGuard guard;
  const bool normed = norms.q_weight.defined();
  FT_INVARIANT(normed == norms.k_weight.defined());
  if (in.q.is_cpu()) {
    const auto one = [&](const Tensor& x, const Tensor& w) {
      if (!x.defined()) return x;
      const Tensor y = normed ? rms_norm(x, w, norms.settings) : x;
      rotate_loops(y, y, r, 1.0f);
      return y;
    };
    return {one(in.q, norms.q_weight), one(in.k, norms.k_weight)};
  }
  QueriesAndKeys out = in;
  if (normed) out = {ops::empty_like(in.q), ops::empty_like(in.k)};
  cuda::run("qk_rope", cuda::qk_rope, arguments(in, norms, r, out),
            {in.q, in.k, norms.q_weight, r.cos, r.sin, out.q, out.k});
  return out;
}

std::vector<Tensor> rotate_backward(const QueriesAndKeys& grads, const QueriesAndKeys& in,
                                    const HeadNorms& norms, const Rotation& r, bool with_weights,
                                    const QueriesAndKeys& to) {
  const at::NoGradGuard guard;
  const bool normed = norms.q_weight.defined();
  const at::Device device = grads.q.device();
  const auto weight_gradient = [&] {
    return normed && with_weights ? ops::zeros({grads.q.size(2)}, at::kFloat, device) : Tensor();
  };
  const Tensor q_dw = weight_gradient(), k_dw = weight_gradient();
  if (device.is_cpu()) {
    const auto one = [&](const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& dw,
                         const Tensor& dx) {
      if (!dy.defined()) return;
      rotate_loops(dy, normed ? dy : dx, r, -1.0f);
      if (normed) rms_norm_backward(dy, x, w, norms.settings, dx, dw);
    };
    one(grads.q, in.q, norms.q_weight, q_dw, to.q);
    one(grads.k, in.k, norms.k_weight, k_dw, to.k);
  } else {
    const auto partial = [&](const Tensor& dw) {
      return dw.defined() ? ops::empty({cuda::kNormPartials, dw.size(0)}, at::kFloat, device)
                          : Tensor();
    };
    const Tensor q_partial = partial(q_dw), k_partial = partial(k_dw);
    const cuda::QkRopeBackward p{.forward = arguments(normed ? in : grads, norms, r, to),
                                 .dq = token_rows(grads.q),
                                 .dk = token_rows(grads.k),
                                 .q_dw = cpu::data<float>(q_dw),
                                 .k_dw = cpu::data<float>(k_dw),
                                 .q_partial = cpu::data<float>(q_partial),
                                 .k_partial = cpu::data<float>(k_partial)};
    cuda::run("qk_rope backward", cuda::qk_rope_backward, p,
              {grads.q, grads.k, normed ? in.q : Tensor(), normed ? in.k : Tensor(), r.cos, r.sin,
               to.q, to.k},
              q_dw.defined() ? 3 : 1);
  }
  const auto as = [](const Tensor& dw, const Tensor& w) {
    return dw.defined() ? dw.to(w.scalar_type()) : Tensor();
  };
  return {as(q_dw, norms.q_weight), as(k_dw, norms.k_weight)};
}

Tensor rope(const Tensor& x, const Rotation& r) {
  check_shape(x, "rope input", {r.cos.size(0), -1, 2 * r.cos.size(1)});
  if (!use_cpu_loops(x) && !use_cuda_kernels(x)) return reference(x, r.cos, r.sin);
  return apply(
      {x},
      [&](Saved&) {
        return rotate({x.clone(), {}}, {}, r).q;
      },
      [r](const Tensor& grad, const Saved&) -> std::vector<Tensor> {
        const Tensor dy = grad.contiguous(), dx = ops::empty_like(dy);
        rotate_backward({dy, {}}, {}, {}, r, false, {dx, {}});
        return {dx};
      });
}

}  // namespace ft
