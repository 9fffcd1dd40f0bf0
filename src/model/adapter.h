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
  /// The base weight with the adapter folded in, float32 [out, in].
  virtual Tensor merged_weight(const Linear& base) const = 0;
};

}  // namespace ft
