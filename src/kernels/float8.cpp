#include "kernels/float8.h"

#include <ATen/ops/_scaled_mm_ops.h>

#include "base/error.h"
#include "kernels/dispatch.h"

namespace ft {
namespace {

Float8Rows plain(const Tensor& x) {
  const Tensor wide = x.to(at::kFloat);
  const Tensor scales =
      wide.abs().amax({1}, /*keepdim=*/true).div(kFloat8Most).clamp_min(kFloat8LeastScale);
  return {wide.mul(scales.reciprocal()).to(at::kFloat8_e4m3fn), scales};
}

}  // namespace

Float8Rows to_float8(const Tensor& x) {
  const at::NoGradGuard guard;
  FT_INVARIANT(x.dim() == 2 && x.stride(1) == 1);
  if (!is_on_cuda(x) && !x.is_meta()) return plain(x);
  const Float8Rows y = empty_float8(x.size(0), x.size(1), x.device());
  if (!is_on_cuda(x)) return y;  // an outline
  const cuda::ToFloat8 call{cuda::dtype_of(x), x.size(0), x.size(1), cuda::rows(x),
                            cuda::float8_out(y)};
  cuda::run("to_float8", cuda::to_float8, call, {x, y.codes, y.scales});
  return y;
}

Float8Rows empty_float8(int64_t rows, int64_t width, at::Device device) {
  return {ops::empty({rows, width}, at::kFloat8_e4m3fn, device),
          ops::empty({rows, 1}, at::kFloat, device)};
}

Tensor multiply_float8(const Float8Rows& x, const Float8Rows& w) {
  const at::NoGradGuard guard;
  const int64_t N = x.codes.size(0), M = w.codes.size(0);
  FT_INVARIANT(x.codes.size(1) % kFloat8Multiple == 0 && M % kFloat8Multiple == 0);
  if (is_noted(x.codes)) {
    const Tensor y = ops::empty({N, M}, at::kBFloat16, x.codes.device());
    note_product("scaled_mm", {x.codes, w.codes, y}, LaunchKind::kFloat8Product);
    return y;
  }
  if (!x.codes.is_cuda())
    return x.codes.to(at::kFloat)
        .mm(w.codes.to(at::kFloat).t())
        .mul(x.scales)
        .mul(w.scales.t())
        .to(at::kBFloat16);
  // The fast sum's rounding is far below that of the codes.
  return at::_ops::_scaled_mm::call(x.codes, w.codes.t(), x.scales, w.scales.view({1, M}),
                                    std::nullopt, std::nullopt, at::kBFloat16,
                                    /*use_fast_accum=*/true);
}

QuantizedWeight quantized_rows(const Float8Rows& w, int64_t begin, int64_t count,
                               at::ScalarType stored) {
  QuantizedWeight part;
  part.type = kFloat8Type;
  part.codes = w.codes.narrow(0, begin, count);
  part.absmax = w.scales.narrow(0, begin, count);
  part.out = count;
  part.in = w.codes.size(1);
  part.stored = stored;
  return part;
}

bool has_float8(at::Device device) {
  if (device.is_meta()) return true;  // of a ledger, which stands for a card that has it
  if (!device.is_cuda()) return false;
  int capability = 0;
  const auto error = cuda::capability({device.index(), &capability}, nullptr);
  if (static_cast<int>(error) != 0) fail(Code::kRun, "CUDA: ", cuda::error_text(error));
  return capability >= 89;
}

}  // namespace ft
