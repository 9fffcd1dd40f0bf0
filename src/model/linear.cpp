#include "model/linear.h"

#include "base/error.h"

namespace ft {

LinearWeight Linear::operand(at::ScalarType dtype) const {
  if (weight->quantized) return {Tensor(), weight->quantized};
  return {weight->value.to(dtype), nullptr};
}

int64_t Linear::out() const {
  return weight->quantized ? weight->quantized->out : weight->value.size(0);
}

int64_t Linear::in_features() const {
  return weight->quantized ? weight->quantized->in : weight->value.size(1);
}

std::optional<LinearPart> Linear::part(at::ScalarType dtype) const {
  if (adapter) return adapter->part(*this, dtype);
  // Weights that are trained beside an adapter are float32 whatever the model computes in.
  return LinearPart{operand(dtype), bias ? bias->value.to(dtype) : Tensor()};
}

Tensor Linear::operator()(const Tensor& x) const {
  const auto p = part(x.scalar_type());
  return p ? linear(x, *p) : adapter->forward(*this, x);
}

Tensor Adapter::forward(const Linear& base, const Tensor&) const {
  fail(Code::kInternal, base.name, ": an adapter without a part must have a forward pass");
}

}  // namespace ft
