// Numbers that a device makes, for a host that does not wait for them.
#pragma once

#include <c10/core/Event.h>

#include "kernels/ops.h"

namespace ft {

class OnTheWay {
 public:
  OnTheWay() = default;
  /// Float64 scalars of one device: on a GPU their copy is queued behind what makes them.
  explicit OnTheWay(const std::vector<Tensor>& numbers);
  /// When they are there.
  std::vector<double> wait() const;

 private:
  Tensor host_;  ///< pinned where they come from a GPU
  std::optional<c10::Event> arrival_;
};

}  // namespace ft
