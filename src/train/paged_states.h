// Optimizer states that lie outside the device's memory between updates ("paged optimizers",
// Dettmers et al. 2023), by plain copies instead of managed memory: what moves when is then known.
//   CPU   a file without a name in the output folder, mapped; pages are given back after use
//   CUDA  pinned host memory; a tensor's state is copied to the device while the one before it is
//         updated, and back behind it, on a stream of its own
#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <filesystem>
#include <map>

#include "kernels/ops.h"

namespace ft {

/// What the optimizer keeps for one parameter; absent ones are undefined.
struct StateTensors {
  enum Kind { kExpAvg, kExpAvgSq, kExpAvgScale, kExpAvgSqScale, kExtra, kCount };
  std::array<Tensor, kCount> of;
  Tensor& operator[](Kind kind) { return of[kind]; }
  const Tensor& operator[](Kind kind) const { return of[kind]; }
};

/// A file that goes with the process, however it ends, and grows by a mapping per tensor.
class PageFile {
 public:
  /// Error (output) when `folder` takes no file.
  explicit PageFile(const std::filesystem::path& folder);
  ~PageFile();
  PageFile(const PageFile&) = delete;
  PageFile& operator=(const PageFile&) = delete;

  /// Zeros in the file. Error (output) when there is no room for them on the disk.
  Tensor zeros(at::IntArrayRef sizes, at::ScalarType dtype);

 private:
  std::string folder_;
  int fd_ = -1;
  int64_t size_ = 0;
};

/// The way of states between pinned host memory and a CUDA device.
class DeviceStaging {
 public:
  explicit DeviceStaging(at::Device device);

  static Tensor zeros(at::IntArrayRef sizes, at::ScalarType dtype);
  /// Starts to copy the state of parameter `index` to the device.
  void prefetch(size_t index, const StateTensors& host);
  /// That state on the device, for kernels on the current stream.
  StateTensors take(size_t index, const StateTensors& host);
  /// Starts to copy the updated state back, after what the current stream holds by now.
  void give_back(const StateTensors& host, const StateTensors& on_device) const;
  /// Returns when everything is in host memory.
  void wait() const;

 private:
  struct Arrival {
    StateTensors state;
    c10::Event event;
  };
  at::Device device_;
  c10::Stream copies_;
  std::map<size_t, Arrival> arrivals_;
};

}  // namespace ft
