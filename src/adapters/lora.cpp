#include "adapters/lora.h"

#include <cmath>

#include "base/error.h"
#include "base/seed.h"
#include "kernels/kernels.h"

namespace ft {

Tensor LoraAdapter::forward(const Linear& base, const Tensor& x) const {
  LoraOperands lora{a_->value, b_->value, scale_};
  if (dropout_->key != 0 && dropout_->probability > 0) {
    lora.dropout = dropout_->probability;
    lora.dropout_key = mix64(dropout_->key ^ layer_);
  }
  return lora_linear(x, base.operand(x.scalar_type()),
                     base.bias ? base.bias->value.to(x.scalar_type()) : Tensor(), lora);
}

Tensor LoraAdapter::merged_weight(const Linear& base) const {
  const Tensor delta =
      b_->value.detach().to(at::kFloat).mm(a_->value.detach().to(at::kFloat)).mul_(scale_);
  return delta.add_(base.operand(at::kFloat).in(at::kFloat).detach());
}

Tensor init_lora_a(const std::string& init, int64_t rank, int64_t in, uint64_t seed) {
  Tensor a = ops::empty({rank, in}, at::kFloat);
  auto* out = static_cast<float*>(a.data_ptr());
  Rng rng(seed);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  for (int64_t i = 0; i < a.numel(); ++i) {
    if (init == "gaussian") {  // Box-Muller
      const double radius = std::sqrt(-2 * std::log(1 - rng.uniform()));
      out[i] = static_cast<float>(radius * std::cos(2 * M_PI * rng.uniform()) /
                                  static_cast<double>(rank));
    } else {
      FT_INVARIANT(init == "default");
      out[i] = static_cast<float>((2 * rng.uniform() - 1) * bound);
    }
  }
  return a;
}

}  // namespace ft
