// LoRA (Hu et al. 2021) with PEFT's semantics: y = W x + s B A drop(x), s = alpha / r, or alpha /
// sqrt(r) for rsLoRA (Kalajdzievski 2023).
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/kernels.h"
#include "model/linear.h"

namespace ft {

/// Shared by the layers of one adapter.
struct AdapterState {
  double dropout = 0;        ///< probability
  uint64_t dropout_key = 0;  ///< 0 switches dropout off (evaluation)
  uint64_t num_updates = 0;  ///< raised by each optimizer step: what was computed of A and B is old
};

class LoraAdapter : public Adapter {
 public:
  LoraAdapter(Param& a, Param& b, double scale, std::shared_ptr<const AdapterState> state,
              uint64_t layer)
      : a_(&a), b_(&b), scale_(scale), state_(std::move(state)), layer_(layer) {}
  std::optional<LinearPart> part(const Linear& base, at::ScalarType dtype) const override;
  Tensor delta(const Linear& base) const override;

  /// A, B, scale and, in training, this layer's dropout.
  LoraOperands operands() const;
  /// scale B A, float32 [out, in].
  Tensor product() const;
  const AdapterState& state() const { return *state_; }

 private:
  Param* a_;  ///< [R, in]
  Param* b_;  ///< [out, R]
  double scale_;
  std::shared_ptr<const AdapterState> state_;
  uint64_t layer_;
};

}  // namespace ft
