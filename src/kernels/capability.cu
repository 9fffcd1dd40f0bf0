// What the card is.
#include "kernels/launch.h"

namespace ft::cuda {

cudaError_t capability(const Capability& p, cudaStream_t) {
  int major = 0, minor = 0;
  const auto attribute = [&](int* value, cudaDeviceAttr which) {
    return cudaDeviceGetAttribute(value, which, p.device);
  };
  cudaError_t error = attribute(&major, cudaDevAttrComputeCapabilityMajor);
  if (error == cudaSuccess) error = attribute(&minor, cudaDevAttrComputeCapabilityMinor);
  *p.value = 10 * major + minor;
  return error;
}

}  // namespace ft::cuda
