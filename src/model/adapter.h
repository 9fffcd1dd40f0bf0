// The interface that Linear calls. Implementations live one layer up, in adapters/.
#pragma once

#include <optional>

#include "kernels/linear_group.h"

namespace ft {

struct Linear;

class Adapter {
 public:
  virtual ~Adapter() = default;
  /// The layer with the adapter on, in `dtype`, as the ops take it; nullopt where it is not one
  /// product.
  virtual std::optional<LinearPart> part(const Linear& base, at::ScalarType dtype) const = 0;
  /// The layer's output where there is no part. x [N, in] -> [N, out]
  virtual Tensor forward(const Linear& base, const Tensor& x) const;
  /// What the adapter adds to the base weight, float32 [out, in].
  virtual Tensor delta(const Linear& base) const = 0;
};

}  // namespace ft
