// The accelerator, if there is one. LibTorch's CUDA part is loaded only when a driver is present
// and a run may use it, so that the program starts fast and small on a machine without.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace ft {

/// Loads libtorch_cuda when the driver is there; the answer is remembered.
bool has_cuda();

/// Peak memory so far in bytes: allocated on the device, or, on the CPU, the resident set.
int64_t peak_memory(at::Device device);
/// The resident set now.
int64_t resident_memory();

/// Memory of the machine that this process may still take, as far as the kernel tells.
int64_t available_memory();

/// Memory in all, of the card or of the machine.
int64_t total_memory(at::Device device);
/// Bytes of it that this process has or could take now.
int64_t usable_memory(at::Device device);

/// `NVIDIA H200`, or the number of CPU threads.
std::string device_text(at::Device device);

/// Intra-op threads in use.
int64_t num_threads();

/// Settings of LibTorch that every command wants. Call first in main.
void prepare_runtime();

}  // namespace ft
