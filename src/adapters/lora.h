// LoRA (Hu et al. 2021) with PEFT's semantics: y = W x + s B A drop(x), s = alpha / r, or alpha /
// sqrt(r) for rsLoRA (Kalajdzievski 2023).
#pragma once

#include <cstdint>
#include <memory>

#include "model/linear.h"

namespace ft {

/// Shared by the layers of one adapter: key 0 switches dropout off (evaluation).
struct DropoutState {
  double probability = 0;
  uint64_t key = 0;
};

class LoraAdapter : public Adapter {
 public:
  LoraAdapter(Param& a, Param& b, double scale, std::shared_ptr<const DropoutState> dropout,
              uint64_t layer)
      : a_(&a), b_(&b), scale_(scale), dropout_(std::move(dropout)), layer_(layer) {}
  Tensor forward(const Linear& base, const Tensor& x) const override;
  Tensor merged_weight(const Linear& base) const override;

 private:
  Param* a_;  ///< [R, in]
  Param* b_;  ///< [out, R]
  double scale_;
  std::shared_ptr<const DropoutState> dropout_;
  uint64_t layer_;
};

/// Start values: A uniform within 1/sqrt(in) ("default", Kaiming with a = sqrt 5) or normal with
/// deviation 1/R ("gaussian").
Tensor init_lora_a(const std::string& init, int64_t rank, int64_t in, uint64_t seed);

}  // namespace ft
