// Weights in four bits as bitsandbytes keeps them: NF4 (Dettmers et al. 2023, QLoRA) or FP4. Runs
// of block_size weights share a scale, their largest magnitude; with double quantisation the
// scales, less their mean, are kept in eight bits with a scale per nested_block_size of them.
// Bytes, scales and values are those of bitsandbytes on the CPU, bit for bit.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/ops.h"

namespace ft {

/// Of weights in eight bits (float8.h): codes is float8_e4m3fn [out, in], absmax the scales [out,
/// 1]; the rest stays empty.
inline constexpr const char* kFloat8Type = "float8";

/// A matrix [out, in], row-major, cut into blocks without regard to its rows.
struct QuantizedWeight {
  Tensor codes;              ///< uint8 [ceil(out * in / 2)], two codes a byte, the first one high
  Tensor absmax;             ///< [blocks] float32, or uint8: places in nested_map
  Tensor nested_absmax;      ///< float32 [nested blocks]; undefined where absmax is float32, as is
  Tensor nested_map;         ///< float32 [256]
  double nested_offset = 0;  ///< the mean of the scales
  Tensor code_map;           ///< float32 [16]
  int64_t block_size = 64, nested_block_size = 256;
  int64_t out = 0, in = 0;
  std::string type;                       ///< nf4 | fp4 | kFloat8Type
  at::ScalarType stored = at::kBFloat16;  ///< the values are rounded to it when dequantised
};

/// The matrix [out, in]: code * scale in float32, rounded to `stored`, then to `dtype`.
Tensor dequantize(const QuantizedWeight& weight, at::ScalarType dtype);
/// The same into `to` [out, in], whose rows may have any stride.
void dequantize(const QuantizedWeight& weight, const Tensor& to);

/// Packs w [out, in] (float32, bfloat16 or float16; on the CPU), which becomes the `stored` dtype.
QuantizedWeight quantize(const Tensor& w, const std::string& type, int64_t block_size,
                         bool double_quant);

/// A copy on `device`.
QuantizedWeight to_device(const QuantizedWeight& weight, at::Device device);

}  // namespace ft
