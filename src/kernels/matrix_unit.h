// Products of matrices as the linear layers need them: a left operand shared by several products,
// sums of products with one rounding at the end. On bfloat16 CPU tensors they run on the
// processor's matrix unit (Intel AMX) where it has one, by code of our own: LibTorch's products
// reach the unit through oneDNN, which makes a primitive for every call, and with rows of a few
// hundred tokens that costs as much as the product. The weights are packed anew in each call, one
// panel that stays in the cache at a time, so that they exist in memory once. Everywhere else
// LibTorch multiplies.
#pragma once

#include <vector>

#include "kernels/ops.h"

namespace ft {

/// Whether this processor has one and the system lets us use it.
bool has_matrix_unit();
/// Whether x, a bfloat16 CPU tensor, goes there: the kernel mode is auto.
bool use_matrix_unit(const Tensor& x);

/// A left operand [M, K], laid out once for all products that share it.
class Packed {
 public:
  /// x: a contiguous matrix; transposed: the operand is x^T.
  explicit Packed(const Tensor& x, bool transposed = false);

  int64_t rows() const { return rows_; }
  bool is_on_unit() const { return is_on_unit_; }
  at::ScalarType dtype() const { return tiles_.defined() ? at::kBFloat16 : plain_.scalar_type(); }
  int64_t inner() const { return inner_; }
  /// [ceil(M / 32), ceil(K / 32), 2, 16, 32] for the unit, zero where there is no element;
  /// undefined elsewhere, and for few rows and long sums, which are packed as they are made.
  const Tensor& tiles() const { return tiles_; }
  /// The operand as a view of x where there are no tiles.
  const Tensor& plain() const { return plain_; }

 private:
  int64_t rows_, inner_;
  bool is_on_unit_;
  Tensor tiles_, plain_;
};

/// A right operand: scale `matrix` [K, N], or with `transposed` the transpose of `matrix` [N, K] (a
/// weight as it is stored). Rows contiguous; of another dtype than the left operand (adapters are
/// float32) it is scaled and then rounded to that.
struct Right {
  Tensor matrix;
  bool transposed = false;
  double scale = 1;
};

struct Term {
  Packed left;
  Right right;
};

/// sum of left right over the terms, + bias [N] (may be undefined), [M, N] in `dtype` (default: the
/// left operand's; else float32). The unit sums everything in float32 and rounds once, in an order
/// that does not depend on the number of threads; LibTorch rounds after each term.
Tensor multiply(const std::vector<Term>& terms, const Tensor& bias = {},
                std::optional<at::ScalarType> dtype = std::nullopt);

/// What the processor's code provides (matrix_unit_amx.cpp, matrix_unit_none.cpp).
namespace unit {
/// Length of a sum that is made in one pass, so that packed panels stay in the second-level cache.
constexpr int64_t kMaxInner = 2048;
/// Up to so many rows a weight is not packed but read once, in dot products (decoding).
constexpr int64_t kFewRows = 4;
bool probe();
Tensor pack(const Tensor& x, bool transposed);
Tensor multiply(const std::vector<Term>& terms, const Tensor& bias, at::ScalarType dtype);
/// multiply() of one row x [1, K] and a dense weight [N, K] into y [1, N], all bfloat16.
void multiply_row(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y);
}  // namespace unit

}  // namespace ft
