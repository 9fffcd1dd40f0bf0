// The 8-bit code of optimizer states: "dynamic tree quantisation" (Dettmers 2016; Dettmers et al.
// 2022, "8-bit optimizers via block-wise quantization"). A block of kQuantizedBlock numbers is
// divided by its largest magnitude; a code names the nearest of 256 numbers in [-1, 1] that lie
// evenly in each decade, twice as many in each larger one. First moments take the signed map,
// second moments the unsigned one. The numbers are bitsandbytes' to the bit.
#pragma once

#include <cstdint>

namespace ft {

inline constexpr int64_t kQuantizedBlock = 256;

struct DynamicMap {
  /// Numbers from 2^-23 to 1 are sorted by exponent and seven bits of the mantissa; no two middles
  /// fall into one bin.
  static constexpr int32_t kFirstBin = (127 - 23) << 7, kBins = (23 << 7) + 1;

  float values[256];          ///< ascending
  float middles[256];         ///< x above middle i is nearer to value i + 1; the last is infinite
  int32_t lowest[2 * kBins];  ///< the code of a bin's lowest number; then the same of negative bins
};

const DynamicMap& dynamic_map(bool is_signed);

}  // namespace ft
