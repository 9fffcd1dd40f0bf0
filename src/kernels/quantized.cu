// 4-bit weights to matrices on CUDA: a thread makes eight neighbours, which share a scale, from
// four bytes. Products and sums are rounded one by one, as bitsandbytes' bits want it.
#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

constexpr int kPerThread = 8;

__device__ float scale_of(const Dequantize& p, int64_t block) {
  if (p.absmax) return p.absmax[block];
  return __fadd_rn(
      __fmul_rn(p.nested_map[p.absmax_codes[block]], p.nested_absmax[block / p.nested_block_size]),
      p.nested_offset);
}

__device__ float through(Dtype stored, float v) {
  return stored == Dtype::kBFloat16  ? rounded<Bf16>(v)
         : stored == Dtype::kFloat16 ? rounded<Half>(v)
                                     : v;
}

template <typename T>
struct alignas(16) Eight {
  T values[kPerThread];
};

template <typename T>
__global__ void dequantize_kernel(Dequantize p) {
  __shared__ float map[16];
  if (threadIdx.x < 16) map[threadIdx.x] = p.code_map[threadIdx.x];
  __syncthreads();
  T* __restrict__ y = static_cast<T*>(p.y.data);
  const bool rows_are_whole = p.width % kPerThread == 0;  // then eight neighbours are of one row
  const int64_t eights = (p.count + kPerThread - 1) / kPerThread;
  for (int64_t i = first_element(); i < eights; i += element_stride()) {
    const int64_t begin = i * kPerThread;
    const float scale = scale_of(p, begin / p.block_size);
    const bool is_whole = begin + kPerThread <= p.count;
    uint32_t packed = 0;  // the first byte is the lowest
    if (is_whole) {
      packed = reinterpret_cast<const uint32_t*>(p.codes)[i];
    } else {
      for (int64_t byte = begin / 2; byte < (p.count + 1) / 2; ++byte)
        packed |= static_cast<uint32_t>(p.codes[byte]) << 8 * (byte - begin / 2);
    }
    Eight<T> eight;
    for (int k = 0; k < kPerThread; ++k) {
      const uint32_t code = packed >> (8 * (k / 2) + (k % 2 == 0 ? 4 : 0)) & 15;
      store(&eight.values[k], through(p.stored, __fmul_rn(map[code], scale)));
    }
    if (is_whole && rows_are_whole) {
      *reinterpret_cast<Eight<T>*>(y + begin / p.width * p.y.stride + begin % p.width) = eight;
    } else {
      for (int64_t k = begin; k < p.count && k < begin + kPerThread; ++k)
        y[k / p.width * p.y.stride + k % p.width] = eight.values[k - begin];
    }
  }
}

}  // namespace

cudaError_t dequantize(const Dequantize& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(dequantize_kernel<T>, blocks_for((p.count + kPerThread - 1) / kPerThread), kBlock,
                  stream, p);
  });
}

}  // namespace ft::cuda
