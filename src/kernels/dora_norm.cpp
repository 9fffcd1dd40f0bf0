// Norms of the rows of V = W + s B A without making V.
#include <algorithm>

#include "kernels/kernels.h"
#include "kernels/matrix_unit.h"

namespace ft {
namespace {

/// f of blocks of rows of the weight in float32, a few megabytes each, one after the other.
Tensor by_row_blocks(const LinearWeight& weight, const std::function<Tensor(const Tensor&)>& f) {
  const Tensor w = weight.quantized ? weight.in(weight.quantized->stored) : weight.dense.detach();
  const int64_t rows = std::max<int64_t>(1, (1 << 20) / w.size(1));
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < w.size(0); i += rows)
    parts.push_back(f(w.narrow(0, i, std::min(rows, w.size(0) - i)).to(at::kFloat)));
  return ops::cat(parts);
}

}  // namespace

Tensor row_squares(const LinearWeight& w) {
  return by_row_blocks(w, [](const Tensor& block) { return block.square().sum(1); });
}

Tensor dora_norm(const LinearWeight& w, const Tensor& squares, const LoraOperands& lora,
                 at::ScalarType precision) {
  at::NoGradGuard guard;
  const Tensor a = lora.a.to(at::kFloat), b = lora.b.to(at::kFloat);
  Tensor crossed;  // w A^T, [out, R]
  if (precision == at::kFloat) {
    crossed = by_row_blocks(w, [&](const Tensor& block) { return block.mm(a.t()); });
  } else {
    crossed = multiply({{Packed(a.to(precision)), {w.in(precision), true}}}, {}, at::kFloat)
                  .t()
                  .contiguous();
  }
  crossed.mul_(2 * lora.scale);
  const Tensor squared = b.mm(a.mm(a.t())).mul_(lora.scale * lora.scale);  // [out, R]
  // Rounding may take the square of a vanishing row below zero; a norm of zero would make f
  // infinite.
  return squares.add(crossed.add_(squared).mul_(b).sum(1)).clamp_min_(1e-30).sqrt_();
}

}  // namespace ft
