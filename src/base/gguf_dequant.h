// The block formats of GGUF tensors and how their values come back.
// A row is a sequence of blocks; a block holds 1, 32 or 256 weights as small integers with one or
// more scales. Layouts: ggml's ggml-common.h; the arithmetic is that of the `gguf` Python package,
// bit for bit. Formats outside the table (codebooks, 2 and 3 bits) have a name but no reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ft {

/// Numbers as in the file.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct GgmlFormat {
  GgmlType type;
  std::string_view name;
  size_t block_values;  ///< weights in a block
  size_t block_bytes;
};

/// The format with this number, or nullptr when it cannot be dequantised.
const GgmlFormat* find_ggml_format(uint32_t number);
const GgmlFormat& ggml_format(GgmlType type);
/// A name for messages, also for formats that are not read: `Q2_K`, `type 99`.
std::string ggml_type_name(uint32_t number);
/// `F32, F16, ...`: what can be read.
std::string ggml_type_names();

/// `num_blocks` blocks at `blocks` (no alignment needed) to num_blocks * block_values floats.
void dequantize(GgmlType type, const std::byte* blocks, size_t num_blocks, float* out);

/// IEEE half to float, exact.
float half_to_float(uint16_t half);
/// Round to nearest even; NaN stays NaN.
uint16_t float_to_bf16(float value);

}  // namespace ft
