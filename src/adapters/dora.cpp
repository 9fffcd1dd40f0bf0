#include "adapters/dora.h"

namespace ft {
namespace {

/// The frozen weight, dense in its own dtype or in four bits.
LinearWeight base_weight(const Linear& base) {
  return {base.weight->value, base.weight->quantized};
}

}  // namespace

DoraAdapter::DoraAdapter(LoraAdapter lora, Param& magnitude, const Linear& base)
    : lora_(std::move(lora)), magnitude_(&magnitude), squares_(row_squares(base_weight(base))) {}

const Tensor& DoraAdapter::norm(const Linear& base, const LoraOperands& lora,
                                at::ScalarType precision) const {
  if (!norm_.defined() || norm_stamp_ != lora.stamp()) {
    norm_ = dora_norm(base_weight(base), squares_, lora, precision);
    norm_stamp_ = lora.stamp();
  }
  return norm_;
}

std::optional<LinearPart> DoraAdapter::part(const Linear& base, at::ScalarType dtype) const {
  const LoraOperands lora = lora_.operands();
  return LinearPart{base_weight(base), base.bias ? base.bias->value.to(dtype) : Tensor(), lora,
                    magnitude_->value, norm(base, lora, dtype)};
}

Tensor DoraAdapter::delta(const Linear& base) const {
  const Tensor w = base_weight(base).in(at::kFloat).detach();
  Tensor v = lora_.product().add_(w);
  const Tensor factor =
      magnitude_->value.detach().to(at::kFloat).div(v.square().sum(1).sqrt().clamp_min_(1e-15));
  return v.mul_(factor.unsqueeze(1)).sub_(w);
}

Tensor initial_magnitude(const Linear& base, const LoraAdapter& lora) {
  const LinearWeight w = base_weight(base);
  return dora_norm(w, row_squares(w), lora.operands());
}

}  // namespace ft
