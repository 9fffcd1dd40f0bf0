#include "model/linear.h"

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

Tensor Linear::operator()(const Tensor& x) const {
  if (adapter) return adapter->forward(*this, x);
  // Weights that are trained beside an adapter are float32 whatever the model computes in.
  const auto dtype = x.scalar_type();
  return linear(x, operand(dtype), bias ? bias->value.to(dtype) : Tensor());
}

}  // namespace ft
