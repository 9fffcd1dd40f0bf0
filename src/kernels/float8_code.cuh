// How a block of threads rounds a row to E4M3: the largest first, then the codes.
#pragma once

#include <cuda_fp8.h>

#include "kernels/device_code.cuh"

namespace ft::cuda {

template <typename T, int kWide>
__device__ __forceinline__ float largest(const Pack<T, kWide>& pack) {
  float most = 0;
  for (int k = 0; k < kWide; ++k) most = fmaxf(most, fabsf(to_float(pack.values[k])));
  return most;
}

/// Writes this row's scale, from the largest value that each thread has seen; its inverse. All
/// threads call.
__device__ __forceinline__ float float8_inverse(const Float8Out& to, float most) {
  const float scale = fmaxf(block_reduce(most, Max()) / to.most, to.least_scale);
  if (threadIdx.x == 0) to.scales[blockIdx.x] = scale;
  return 1.0f / scale;
}

/// The codes of a row. A thread takes the packs threadIdx.x, threadIdx.x + blockDim.x, ...: what it
/// wrote itself in that order it may read here, from the cache.
template <typename T>
__device__ void row_to_float8(const T* x, int64_t width, float inverse, uint8_t* codes) {
  constexpr int kWide = kPackBytes / sizeof(T);
  for (int64_t i = threadIdx.x * kWide; i < width; i += blockDim.x * kWide) {
    const auto from = pack_at<kWide>(x + i);
    Pack<__nv_fp8x2_storage_t, kWide / 2> to;
    for (int k = 0; k < kWide; k += 2)
      to.values[k / 2] = __nv_cvt_float2_to_fp8x2(
          {to_float(from.values[k]) * inverse, to_float(from.values[k + 1]) * inverse},
          __NV_SATFINITE, __NV_E4M3);
    pack_at<kWide / 2>(reinterpret_cast<__nv_fp8x2_storage_t*>(codes + i)) = to;
  }
}

}  // namespace ft::cuda
