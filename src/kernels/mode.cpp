#include "kernels/mode.h"

#include "kernels/launch.h"
#include "kernels/ledger.h"

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

bool is_on_cuda(const Tensor& x) {
  return current != KernelMode::kReference && ((cuda::kBuilt && x.is_cuda()) || is_noted(x)) &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16 ||
          x.scalar_type() == at::kHalf);
}

bool use_cuda_kernels(const Tensor& x) {
  return is_on_cuda(x) && x.is_contiguous();
}

}  // namespace ft
