// What the .cu files share: float32 in and out of the three storage types, sums over a block, and
// the launch. It goes through cudaLaunchKernelEx, a plain function, instead of <<<...>>>, so that
// the tests can compile the same sources for the CPU (tests/kernels/emulate).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "kernels/launch.h"

namespace ft::cuda {

inline constexpr int kBlock = 256;  // threads of a block where the work does not decide

using Bf16 = __nv_bfloat16;
using Half = __half;

__device__ __forceinline__ float to_float(float v) {
  return v;
}
__device__ __forceinline__ float to_float(Bf16 v) {
  return __bfloat162float(v);
}
__device__ __forceinline__ float to_float(Half v) {
  return __half2float(v);
}

__device__ __forceinline__ void store(float* p, float v) {
  *p = v;
}
__device__ __forceinline__ void store(Bf16* p, float v) {
  *p = __float2bfloat16(v);
}
__device__ __forceinline__ void store(Half* p, float v) {
  *p = __float2half(v);
}
/// v after a trip through T.
template <typename T>
__device__ __forceinline__ float rounded(float v) {
  T t;
  store(&t, v);
  return to_float(t);
}

/// kWide neighbours, moved as one.
template <typename T, int kWide>
struct alignas(sizeof(T) * kWide) Pack {
  T values[kWide];
};
template <int kWide, typename T>
__device__ __forceinline__ auto& pack_at(T* p) {
  using Of = Pack<std::remove_const_t<T>, kWide>;
  return *reinterpret_cast<std::conditional_t<std::is_const_v<T>, const Of, Of>*>(p);
}
inline constexpr int kPackBytes = 16;
/// Whether every row of the matrices can be cut into packs of that size.
template <typename T>
bool in_packs(int64_t width, std::initializer_list<Rows> all) {
  for (const Rows& rows : all)
    if (reinterpret_cast<uintptr_t>(rows.data) % kPackBytes != 0 ||
        rows.stride * static_cast<int64_t>(sizeof(T)) % kPackBytes != 0)
      return false;
  return width * static_cast<int64_t>(sizeof(T)) % kPackBytes == 0;
}

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// op over the values of all threads, the same bits in every thread. The block is whole warps and
/// all of them call. Values go pairwise within a warp, then warp by warp: a fixed order.
template <typename Op>
__device__ float block_reduce(float v, Op op) {
  __shared__ float of_warp[32];
  for (int distance = 16; distance > 0; distance /= 2)
    v = op(v, __shfl_xor_sync(0xffffffffu, v, distance));
  __syncthreads();  // a slower warp may still read the result of the call before
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
  __syncthreads();
  v = of_warp[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) v = op(v, of_warp[warp]);
  return v;
}

/// Where this thread starts in a grid-stride loop over elements, and its step.
__device__ __forceinline__ int64_t first_element() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t element_stride() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

/// Blocks for a grid-stride loop over `count` elements.
inline int64_t blocks_for(int64_t count) {
  return std::min<int64_t>((count + kBlock - 1) / kBlock, 1 << 16);
}
/// Threads for a row of `width` elements: about four elements each, whole warps.
inline int threads_for(int64_t width) {
  return static_cast<int>(std::clamp<int64_t>((width / 4 + 31) / 32 * 32, 32, kBlock));
}

/// kernel<<<blocks, threads, 0, stream>>>(arguments). Nothing to do is no error.
template <typename Arguments>
cudaError_t launch(void (*kernel)(Arguments), int64_t blocks, int threads, cudaStream_t stream,
                   const Arguments& arguments) {
  if (blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments);
}

/// f with a null pointer of the storage type.
template <typename F>
cudaError_t with_type(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::kFloat32:
      return f(static_cast<float*>(nullptr));
    case Dtype::kBFloat16:
      return f(static_cast<Bf16*>(nullptr));
    case Dtype::kFloat16:
      return f(static_cast<Half*>(nullptr));
  }
  return cudaErrorInvalidValue;
}

}  // namespace ft::cuda
