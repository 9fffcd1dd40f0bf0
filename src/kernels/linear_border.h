// LoRA without passes of its own (CUDA). The frozen weights of layers that share an input lie in
// one matrix M with their adapters around them:
//
//   [ W_1  s B_1    0   ]        X' = [ X  X A_1^T  X A_2^T ]      Y  = X' [ W  sB ]^T
//   [ W_2    0    s B_2 ]        G' = [ dY  s dY_1 B_1  s dY_2 B_2 ]   dX = G' [ W ; A ]
//   [ A_1    0      0   ]
//   [ A_2    0      0   ]
//
// so that the adapter is part of the big product's sum, with its one rounding; only X A^T and dY sB
// are products of their own, written beside X and dY where those left room. s, A and B are written
// into M when they have changed.
//
// Weights in eight bits (float8.h) cannot hold an adapter. They lie in two matrices, W and W^T,
// each with scales for its own rows, for Y and for dX, whose other operand is rounded to eight bits
// for the product; A and B have matrices of their own, and their products are added to the rounded
// ones.
#pragma once

#include "kernels/float8.h"
#include "kernels/linear_group.h"

namespace ft {

class LinearBorder {
 public:
  /// Dense weights move into the matrix, of their dtype: `*weights[i]` becomes a view of it. Those
  /// in four bits (`*weights[i]` undefined, parts[i].w.quantized) are put there at each use.
  LinearBorder(const std::vector<LinearPart>& parts, const std::vector<Tensor*>& weights,
               at::ScalarType dtype);
  /// The same with dense weights rounded to eight bits; they are left as they are.
  static std::shared_ptr<LinearBorder> in_float8(const std::vector<LinearPart>& parts,
                                                 at::ScalarType dtype);

  /// Whether a layer may go this way: no dropout, no DoRA, its weight not trained.
  static bool can_hold(const LinearPart& part);
  /// And in eight bits.
  static bool can_hold_float8(const std::vector<LinearPart>& parts);
  /// Whether these parts are the ones, as they were.
  bool takes(const std::vector<LinearPart>& parts) const;
  /// What the products are made with; the adapters are those of now.
  struct Operands {
    Tensor m;     ///< [out + rank, in + rank]; undefined where weights are in eight bits
    Tensor a, b;  ///< [rank, in], [out, rank]
  };
  Operands operands(const std::vector<LinearPart>& parts);
  bool is_float8() const { return rows_.codes.defined(); }
  const Float8Rows& rows() const { return rows_; }        ///< W
  const Float8Rows& columns() const { return columns_; }  ///< W^T
  /// Columns of X A^T behind X, and of dY sB behind dY.
  int64_t spare() const { return is_float8() ? 0 : rank_; }

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  int64_t rank() const { return rank_; }
  /// Of a part: its first output, and its first column of X A^T.
  int64_t first_out(size_t i) const { return outs_[i]; }
  int64_t first_rank(size_t i) const { return ranks_[i]; }
  int64_t out_of(size_t i) const { return outs_[i + 1] - outs_[i]; }
  int64_t rank_of(size_t i) const { return ranks_[i + 1] - ranks_[i]; }

 private:
  LinearBorder(const std::vector<LinearPart>& parts, at::ScalarType dtype);
  bool holds(const LinearWeight& w) const;
  Operands operands_of(const Tensor& matrix) const;
  void write_adapters(const std::vector<LinearPart>& parts, const Operands& to) const;

  at::ScalarType dtype_;
  int64_t in_ = 0, out_ = 0, rank_ = 0;
  std::vector<int64_t> outs_ = {0}, ranks_ = {0};     ///< running sums
  Operands kept_;                                     ///< undefined where weights are in four bits
  Float8Rows rows_, columns_;                         ///< undefined but where they are in eight
  std::vector<std::pair<uint64_t, int64_t>> stamps_;  ///< of the adapters in it
};

/// Neighbouring columns of one matrix as that matrix with `spare` more columns behind: the memory
/// they lie in where it has that form, else a copy with that room.
Tensor with_spare(const std::vector<Tensor>& columns, int64_t spare);

}  // namespace ft
