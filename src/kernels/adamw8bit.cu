// AdamW with 8-bit moments on CUDA: a block of threads takes a block of codes, a thread an element.
// The moments leave the registers only as codes.
#include "kernels/adamw_code.cuh"
#include "kernels/dynamic_map.h"

namespace ft::cuda {
namespace {

/// How many of the 255 middles lie below x: the code of the nearest value.
__device__ __forceinline__ unsigned nearest_code(float x, const float* middles) {
  unsigned low = 0;
  for (unsigned step = 128; step > 0; step /= 2)
    if (x > middles[low + step - 1]) low += step;
  return low;
}

template <typename T, typename G>
__global__ void adamw8bit_kernel(Adamw8bit p) {
  const float scale = adamw_scale(p.weights);
  if (scale != scale) return;  // NaN
  const int64_t blocks = (p.weights.count + kQuantizedBlock - 1) / kQuantizedBlock;
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t i = block * kQuantizedBlock + threadIdx.x;
    const bool inside = i < p.weights.count;
    float m = 0, v = 0;
    if (inside) {
      m = p.tables[p.exp_avg[i]] * p.exp_avg_scale[block];
      v = p.tables[512 + p.exp_avg_sq[i]] * p.exp_avg_sq_scale[block];
      adamw_element<T, G>(p.weights, scale, i, m, v);
    }
    const float m_scale = block_reduce(fabsf(m), Max()), v_scale = block_reduce(v, Max());
    if (inside) {
      const float m_unit = m / (m_scale > 0 ? m_scale : 1),
                  v_unit = v / (v_scale > 0 ? v_scale : 1);
      p.exp_avg[i] = static_cast<uint8_t>(nearest_code(m_unit, p.tables + 256));
      p.exp_avg_sq[i] = static_cast<uint8_t>(nearest_code(v_unit, p.tables + 768));
    }
    if (threadIdx.x == 0) {  // all have read the old ones: they met in block_reduce
      p.exp_avg_scale[block] = m_scale;
      p.exp_avg_sq_scale[block] = v_scale;
    }
  }
}

}  // namespace

cudaError_t adamw8bit(const Adamw8bit& p, cudaStream_t stream) {
  static_assert(kBlock == kQuantizedBlock);
  return with_adamw_types(p.weights, [&](auto* weight, auto* gradient) {
    using T = std::remove_pointer_t<decltype(weight)>;
    using G = std::remove_pointer_t<decltype(gradient)>;
    return launch(adamw8bit_kernel<T, G>, blocks_for(p.weights.count), kBlock, stream, p);
  });
}

}  // namespace ft::cuda
