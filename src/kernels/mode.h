// Which implementation of the fused ops runs. Set once at start-up.
#pragma once

#include "kernels/ops.h"

namespace ft {

/// kNoMatrixUnit: as kAuto on a processor that has none (for tests).
enum class KernelMode { kAuto, kReference, kNoMatrixUnit };

void set_kernel_mode(KernelMode mode);
KernelMode kernel_mode();
/// True where the hand-written CPU loops serve: mode auto, a CPU tensor, contiguous, float32 or
/// bfloat16.
bool use_cpu_loops(const Tensor& x);
/// True where the CUDA kernels serve: mode auto, a program built with them, a CUDA tensor of
/// float32, bfloat16 or float16; or a meta tensor whose launches are noted (ledger.h).
bool is_on_cuda(const Tensor& x);
/// The same for a contiguous tensor.
bool use_cuda_kernels(const Tensor& x);

}  // namespace ft
