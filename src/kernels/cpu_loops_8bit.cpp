// 8-bit codes of blocks of kQuantizedBlock numbers and back, without branches or calls, so that the
// loops vectorise: a table lookup finds the code up to one, a comparison decides.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cpu_loops.h"
#include "kernels/launch.h"

namespace ft::cpu {

FT_CLONES void quantize_blocks(const float* x, int64_t n, const DynamicMap& map, uint8_t* codes,
                               float* scales) {
  for (int64_t begin = 0; begin < n; begin += kQuantizedBlock) {
    const int64_t end = std::min(n, begin + kQuantizedBlock);
    float largest = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(x[i]));
    *scales++ = largest;
    const float divisor = largest > 0 ? largest : 1;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float v = x[i] / divisor;
      const uint32_t bits = std::bit_cast<uint32_t>(v);
      int32_t bin = static_cast<int32_t>((bits >> 16) & 0x7fff) - DynamicMap::kFirstBin;
      bin = std::clamp(bin, 0, DynamicMap::kBins - 1);
      bin += static_cast<int32_t>(bits >> 31) * DynamicMap::kBins;
      const int32_t low = map.lowest[bin];
      codes[i] = static_cast<uint8_t>(low + static_cast<int32_t>(v > map.middles[low]));
    }
  }
}

FT_CLONES void dequantize_blocks(const uint8_t* codes, const float* scales, int64_t n,
                                 const DynamicMap& map, float* x) {
  for (int64_t begin = 0; begin < n; begin += kQuantizedBlock) {
    const int64_t end = std::min(n, begin + kQuantizedBlock);
    const float scale = *scales++;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) x[i] = map.values[codes[i]] * scale;
  }
}

}  // namespace ft::cpu
