#include "kernels/host_stash.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "base/error.h"

namespace ft {

HostStash::HostStash(at::Device device) : device_(device) {
  if (!device.is_cuda()) return;
  copies_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

void HostStash::beside(const std::function<void()>& f) const {
  c10::Event now(device_.type());
  now.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  now.block(*copies_);
  const c10::StreamGuard guard(*copies_);
  f();
}

size_t HostStash::put(const Tensor& x) {
  const at::NoGradGuard guard;
  Place& place = places_.emplace_back();
  if (!copies_) {
    place.host = x.clone();
    return places_.size() - 1;
  }
  place.host = ops::pinned(x.sizes(), x.scalar_type());
  beside([&] { place.host.copy_(x, /*non_blocking=*/true); });
  x.record_stream(*copies_);  // its memory is not used again before the copy is done
  return places_.size() - 1;
}

void HostStash::fetch(Place& place) {
  if (place.on_device.defined() || !place.host.defined()) return;
  if (!copies_) {
    place.on_device = place.host;
  } else {
    // Memory of the current stream, which waits for the copy before it touches it.
    place.on_device = ops::empty(place.host.sizes(), place.host.scalar_type(), device_);
    beside([&] { place.on_device.copy_(place.host, /*non_blocking=*/true); });
    place.arrival.emplace(device_.type());
    place.arrival->record(*copies_);
  }
  place.host = Tensor();
}

Tensor HostStash::take(size_t place) {
  const at::NoGradGuard guard;
  Place& taken = places_[place];
  fetch(taken);
  FT_INVARIANT(taken.on_device.defined());
  if (taken.arrival)
    taken.arrival->block(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  if (place > 0) fetch(places_[place - 1]);
  return std::move(taken.on_device);
}

}  // namespace ft
