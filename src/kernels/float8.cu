// Rows to eight bits, one block each: the largest, then the codes; the second reading comes from
// the cache.
#include <cuda_fp8.h>

#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

template <typename T>
__global__ void rows_to_float8(ToFloat8 p) {
  constexpr int kWide = 16 / sizeof(T);
  const T* x = static_cast<const T*>(p.x.data) + blockIdx.x * p.x.stride;
  uint8_t* codes = p.codes + blockIdx.x * p.width;
  const int64_t step = static_cast<int64_t>(blockDim.x) * kWide;
  float most = 0;
  for (int64_t i = threadIdx.x * kWide; i < p.width; i += step) {
    const auto values = pack_at<kWide>(x + i);
    for (int k = 0; k < kWide; ++k) most = fmaxf(most, fabsf(to_float(values.values[k])));
  }
  const float scale = fmaxf(block_reduce(most, Max()) / p.most, p.least_scale),
              inverse = 1.0f / scale;
  if (threadIdx.x == 0) p.scales[blockIdx.x] = scale;
  for (int64_t i = threadIdx.x * kWide; i < p.width; i += step) {
    const auto values = pack_at<kWide>(x + i);
    Pack<__nv_fp8x2_storage_t, kWide / 2> of;
    for (int k = 0; k < kWide; k += 2)
      of.values[k / 2] = __nv_cvt_float2_to_fp8x2(
          {to_float(values.values[k]) * inverse, to_float(values.values[k + 1]) * inverse},
          __NV_SATFINITE, __NV_E4M3);
    pack_at<kWide / 2>(reinterpret_cast<__nv_fp8x2_storage_t*>(codes + i)) = of;
  }
}

}  // namespace

cudaError_t to_float8(const ToFloat8& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (!in_packs<T>(p.width, {p.x})) return cudaErrorInvalidValue;
    return launch(rows_to_float8<T>, p.rows, threads_for(p.width / 2), stream, p);
  });
}

}  // namespace ft::cuda
