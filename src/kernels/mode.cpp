#include "kernels/mode.h"

#include "kernels/launch.h"

namespace ft {
namespace {
KernelMode current = KernelMode::kAuto;
}  // namespace

void set_kernel_mode(KernelMode mode) {
  current = mode;
}

KernelMode kernel_mode() {
  return current;
}

bool use_cpu_loops(const Tensor& x) {
  return current != KernelMode::kReference && x.is_cpu() && x.is_contiguous() &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

bool use_cuda_kernels(const Tensor& x) {
  return cuda::kBuilt && current != KernelMode::kReference && x.is_cuda() && x.is_contiguous() &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16 ||
          x.scalar_type() == at::kHalf);
}

}  // namespace ft
