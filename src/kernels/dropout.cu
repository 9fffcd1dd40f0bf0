// Dropout masks on CUDA: the bits of dropout.cpp's.
#include "base/seed.h"
#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

template <typename T>
__global__ void mask_elements(DropoutMask p) {
  T* __restrict__ mask = static_cast<T*>(p.mask);
  for (int64_t i = first_element(); i < p.count; i += element_stride())
    store(&mask[i], (mix64(p.key ^ static_cast<uint64_t>(i)) >> 32) < p.limit ? 0.0f : p.kept);
}

}  // namespace

cudaError_t dropout_mask(const DropoutMask& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(mask_elements<T>, blocks_for(p.count), kBlock, stream, p);
  });
}

}  // namespace ft::cuda
