#include "model/linear.h"

#include "kernels/kernels.h"

namespace ft {

Tensor Linear::operator()(const Tensor& x) const {
  if (adapter) return adapter->forward(*this, x);
  // Weights that are trained beside an adapter are float32 whatever the model computes in.
  const auto dtype = x.scalar_type();
  return linear(x, weight->value.to(dtype), bias ? bias->value.to(dtype) : Tensor());
}

}  // namespace ft
