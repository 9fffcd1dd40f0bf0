#include "adapters/lora.h"

#include "base/seed.h"

namespace ft {

LoraOperands LoraAdapter::operands() const {
  LoraOperands lora{a_->value, b_->value, scale_};
  lora.num_updates = state_->num_updates;
  if (state_->dropout_key != 0 && state_->dropout > 0) {
    lora.dropout = state_->dropout;
    lora.dropout_key = mix64(state_->dropout_key ^ layer_);
  }
  return lora;
}

std::optional<LinearPart> LoraAdapter::part(const Linear& base, at::ScalarType dtype) const {
  return LinearPart{base.operand(dtype), base.bias ? base.bias->value.to(dtype) : Tensor(),
                    operands()};
}

Tensor LoraAdapter::product() const {
  const Tensor a = a_->value.detach().to(at::kFloat), b = b_->value.detach().to(at::kFloat);
  return b.mm(a).mul_(scale_);
}

Tensor LoraAdapter::delta(const Linear&) const {
  return product();
}

}  // namespace ft
