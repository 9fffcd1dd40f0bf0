// Hand-written CPU loops over raw pointers, the fused side of the catalogue. Every function works
// on a range of rows, so that parallel_rows() can split the work; a row is always computed the same
// way, whatever the split.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "kernels/dynamic_map.h"
#include "kernels/kernels.h"

namespace ft::cpu {

/// bfloat16 as stored: the upper half of a float32.
struct Bf16 {
  uint16_t bits;
};

/// Runs body(begin, end) over [0, rows) on the intra-op threads; `cost` is the work of one row in
/// elements.
void parallel_rows(int64_t rows, int64_t cost, const std::function<void(int64_t, int64_t)>& body);

struct RowRange {
  int64_t begin, end, width;
};

// T is float or Bf16; definitions exist for both.
/// What residual_norm() (kernels.h) reads and writes, rows dense; a null pointer: there is none.
template <typename T>
struct ResidualNorm {
  const T *x, *y, *y_weight, *w;
  T *sum, *out;
  float eps;
  bool adds_one;
};
template <typename T>
void residual_norm(RowRange r, const ResidualNorm<T>& p);
/// dx is wanted always, dy where y is normed; the gradients of the weights (float32 [width]) are
/// added to.
template <typename T>
struct ResidualNormBackward {
  const T *dsum, *dout, *sum, *w, *y, *y_weight;
  T *dx, *dy;
  float *dw, *dy_weight;
  float eps;
  bool adds_one;
};
template <typename T>
void residual_norm_backward(RowRange r, const ResidualNormBackward<T>& p);
/// width = D; a row is one head of one token; cos, sin [N, D/2]. sign -1 is the inverse rotation.
template <typename T>
void rope(RowRange r, int64_t heads, const T* x, const float* cos, const float* sin, T* y,
          float sign);
template <typename T>
void gated_act(RowRange r, const T* gate, const T* up, T* y, Activation activation);
template <typename T>
void gated_act_backward(RowRange r, const T* dy, const T* gate, const T* up, T* dgate, T* dup,
                        T* again, Activation activation);
/// logits [rows, V] -> losses [rows]; with `overwrite` the logits become softmax - onehot(target).
template <typename T>
void cross_entropy(RowRange r, T* logits, const int64_t* targets, float* losses, bool overwrite);
/// One query of a head against `keys` keys and values, rows of D end to end;
/// scores: scratch [keys]. out [D].
struct CachedHead {
  int64_t keys, dim;
  float scale, softcap;  ///< AttentionSettings
};
template <typename T>
void attend_one(const CachedHead& head, const T* q, const T* k, const T* v, float* scores, T* out);
/// y = x * f column by column (f [width]); with `dots` (float32 [width], added to) also the sums
/// over the rows of x * z.
template <typename T>
void scale_columns(RowRange r, const T* x, const T* z, const float* f, T* y, float* dots);
/// y += x, elementwise over [begin, end).
template <typename T>
void add(RowRange r, const T* x, T* y);
/// Elements [begin, end); width unused. G is the gradient's type.
template <typename T, typename G>
void adamw(RowRange r, T* param, const G* grad, float* m, float* v, void* extra,
           const AdamwSettings& s);

/// n numbers as codes and one scale per kQuantizedBlock of them, and back.
void quantize_blocks(const float* x, int64_t n, const DynamicMap& map, uint8_t* codes,
                     float* scales);
void dequantize_blocks(const uint8_t* codes, const float* scales, int64_t n, const DynamicMap& map,
                       float* x);
/// The tensors of a QuantizedWeight as pointers, and the dtype its values pass through.
enum class Rounding { kNone, kBFloat16, kFloat16 };
struct PackedBlocks {
  const uint8_t* codes;
  const float* absmax;          ///< [blocks], or null: the scales are in eight bits
  const uint8_t* absmax_codes;  ///< [blocks], places in nested_map
  const float *nested_absmax, *nested_map;
  float nested_offset;
  const float* code_map;
  int64_t block_size, nested_block_size, count;  ///< the sizes: powers of two from 32 on
  Rounding rounding;
};
/// Blocks [begin, end) of width block_size -> their elements of y [count]. (cpu_quantized.cpp)
template <typename T>
void dequantize(RowRange r, const PackedBlocks& packed, T* y);
/// The 4-bit codes in the order of their values, and the limits between neighbours.
struct CodeLimits {
  std::array<float, 15> limit;
  std::array<uint8_t, 16> order;
};
/// Blocks [begin, end) of width block_size (a multiple of 32) of w [count] -> their codes and
/// scales.
template <typename T>
void quantize(RowRange r, const T* w, int64_t count, const CodeLimits& limits, uint8_t* codes,
              float* absmax);

/// Sum of squares of n elements in a fixed order (blocks of 4096, then the block sums, in float64).
template <typename T>
double sum_of_squares(const T* x, int64_t n);

}  // namespace ft::cpu
