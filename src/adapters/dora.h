// DoRA (Liu et al. 2024) with PEFT's semantics: the weight is m V / |V|, V = W + s B A, with the
// norm of each output's row, which is a constant in the backward pass; m is trained beside A and B.
#pragma once

#include "adapters/lora.h"

namespace ft {

class DoraAdapter : public Adapter {
 public:
  DoraAdapter(LoraAdapter lora, Param& magnitude, const Linear& base);
  std::optional<LinearPart> part(const Linear& base, at::ScalarType dtype) const override;
  Tensor delta(const Linear& base) const override;

 private:
  const Tensor& norm(const Linear& base, const LoraOperands& lora, at::ScalarType precision) const;

  LoraAdapter lora_;
  Param* magnitude_;  ///< [out]
  Tensor squares_;    ///< of the base's rows, float32 [out]; the base is frozen

  // The norm costs R products with the base, one token's worth each: once per change of A and B,
  // not once per forward.
  mutable Tensor norm_;
  mutable std::pair<uint64_t, int64_t> norm_stamp_;
};

/// The start of a magnitude: the norms of the rows of W + s B A, float32 [out].
Tensor initial_magnitude(const Linear& base, const LoraAdapter& lora);

}  // namespace ft
