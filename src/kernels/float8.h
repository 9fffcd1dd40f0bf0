// Matrices in eight bits for tensor cores that multiply them (compute capability 8.9 and later):
// E4M3 (Micikevicius et al. 2022, "FP8 formats for deep learning") with a float32 scale per row, so
// that the largest of a row is the largest E4M3 has.
#pragma once

#include "kernels/quantized.h"

namespace ft {

struct Float8Rows {
  Tensor codes;   ///< [N, C] float8_e4m3fn
  Tensor scales;  ///< [N, 1] float32; row n of the matrix is codes[n] * scales[n]
};
/// x [N, C], rows of any stride, rounded so.
Float8Rows to_float8(const Tensor& x);
/// Room for such on a GPU.
Float8Rows empty_float8(int64_t rows, int64_t width, at::Device device);
/// x w^T in bfloat16, one rounding: x [N, C], w [M, C] -> [N, M]. C and M multiples of
/// kFloat8Multiple.
Tensor multiply_float8(const Float8Rows& x, const Float8Rows& w);
inline constexpr int64_t kFloat8Multiple = 16;
inline constexpr float kFloat8Most = 448;
/// No scale is smaller: its inverse must be a number.
inline constexpr float kFloat8LeastScale = 0x1p-100f;

/// Rows [begin, begin + count) of a weight as Linear keeps it; the codes' memory is shared.
QuantizedWeight quantized_rows(const Float8Rows& w, int64_t begin, int64_t count,
                               at::ScalarType stored);

/// Whether the device multiplies in eight bits.
bool has_float8(at::Device device);

}  // namespace ft
