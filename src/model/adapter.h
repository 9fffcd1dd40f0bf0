// The interface that Linear calls. Implementations live one layer up, in adapters/.
#pragma once

#include "kernels/ops.h"

namespace ft {

struct Linear;

class Adapter {
 public:
  virtual ~Adapter() = default;
  /// The layer's output with the adapter on. x [N, in] -> [N, out]
  virtual Tensor forward(const Linear& base, const Tensor& x) const = 0;
  /// What the adapter adds to the base weight, float32 [out, in].
  virtual Tensor delta(const Linear& base) const = 0;
};

}  // namespace ft
