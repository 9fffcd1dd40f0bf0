// Activations that wait in host memory for their backward pass ("offloaded gradient
// checkpointing"): each is copied out of a GPU while the next block runs, and back while the one
// behind it does.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <vector>

#include "kernels/ops.h"

namespace ft {

class HostStash {
 public:
  explicit HostStash(at::Device device);

  /// Starts to copy x; its place. The caller lets go of x.
  size_t put(const Tensor& x);
  /// What was put there, once; the one put before it is then on its way.
  Tensor take(size_t place);

 private:
  struct Place {
    Tensor host;       ///< pinned where the device is a GPU
    Tensor on_device;  ///< defined while it is on its way back
    std::optional<c10::Event> arrival;
  };
  void fetch(Place& place);
  /// Does f on the stream of copies, behind what the current one holds by now.
  void beside(const std::function<void()>& f) const;

  at::Device device_;
  std::optional<c10::Stream> copies_;  ///< a GPU's
  std::vector<Place> places_;
};

}  // namespace ft
