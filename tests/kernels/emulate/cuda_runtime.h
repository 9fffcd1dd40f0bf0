// As much of CUDA as the .cu files use, for the host compiler, under the toolkit's own names: put
// first on the include path, it makes the same sources run on the CPU (see emulator.cpp). Blocks
// run one after another; the threads of a block are fibers that switch only at barriers and
// shuffles, which makes every run repeatable. Shared memory starts with what the block before left
// there.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned size) : x(size) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
using cudaStream_t = void*;
inline const char* cudaGetErrorString(cudaError_t) {
  return "emulated";
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace emulate {

/// The order in which threads and blocks run. A kernel without races gives the same bits for both.
enum class Order { kForward, kBackward };
void set_order(Order order);
/// At most so many blocks (0: no limit), so that small inputs take grid-stride loops round twice.
/// For kernels that have such a loop only.
void limit_grid(unsigned blocks);

/// Runs `thread` for each thread of each block. Throws std::logic_error when a barrier or a shuffle
/// is not reached by all it waits for.
void run(const cudaLaunchConfig_t& config, const std::function<void()>& thread);

/// Suspends the running thread until all threads of its block (of its warp) are suspended so.
void wait_for_block();
void wait_for_warp();
/// 8 bytes per thread of the running block, for shuffles.
uint64_t& exchange_slot(unsigned thread);

}  // namespace emulate

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  if (config->blockDim.x == 0 || config->blockDim.x > 1024 || config->gridDim.x == 0)
    return cudaErrorInvalidValue;
  emulate::run(*config, [&] { kernel(arguments...); });
  return cudaSuccess;
}

inline void __syncthreads() {
  emulate::wait_for_block();
}

/// All 32 lanes take part: the only mask in use.
template <typename T>
T __shfl_xor_sync(unsigned, T value, int lane_mask) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  std::memcpy(&emulate::exchange_slot(threadIdx.x), &value, sizeof(T));
  emulate::wait_for_warp();
  std::memcpy(&value, &emulate::exchange_slot(threadIdx.x ^ static_cast<unsigned>(lane_mask)),
              sizeof(T));
  emulate::wait_for_warp();  // nobody writes the next value before all have read this one
  return value;
}

inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline unsigned __float_as_uint(float v) {
  return std::bit_cast<unsigned>(v);
}
inline float __uint_as_float(unsigned v) {
  return std::bit_cast<float>(v);
}
