// Rotary position embedding (Su et al. 2021) in the "rotate half" layout of the published
// checkpoints. It is linear and orthogonal: the backward pass is the rotation by the negative angle
// and keeps nothing of x.
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

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, float sign) {
  Tensor y = ops::empty_like(x);
  if (x.is_cuda()) {
    const cuda::Rope p{cuda::dtype_of(x),
                       x.size(0),
                       x.size(1),
                       x.size(2),
                       cpu::data<void>(x),
                       cpu::data<float>(cos),
                       cpu::data<float>(sin),
                       sign,
                       cpu::data<void>(y)};
    cuda::check_launch(cuda::rope(p, nullptr), "rope");
    return y;
  }
  cpu::for_rows(x, x.size(-1), [&](auto* t, cpu::RowRange r) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::rope<T>(r, x.size(1), cpu::data<T>(x), cpu::data<float>(cos), cpu::data<float>(sin),
                 cpu::data<T>(y), sign);
  });
  return y;
}

}  // namespace

Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  check_shape(x, "rope input", {cos.size(0), -1, 2 * cos.size(1)});
  if (!use_cpu_loops(x) && !use_cuda_kernels(x)) return reference(x, cos, sin);
  return apply(
      {x}, [&](Saved&) { return rotate(x, cos, sin, 1.0f); },
      [cos, sin](const Tensor& grad, const Saved&) -> std::vector<Tensor> {
        return {rotate(grad.contiguous(), cos, sin, -1.0f)};
      });
}

}  // namespace ft
