// Linear layers that read the same input, with their adapters (LoRA, DoRA) or without, as one op in
// two halves: the input is laid out once, and the gradient of the input is one sum over all layers
// with one rounding. Nothing is made for what is frozen.
#pragma once

#include <memory>
#include <vector>

#include "kernels/kernels.h"

namespace ft {

class LinearBorder;

class LinearGroup {
 public:
  /// `border`: null, or one that holds the parts' weights (linear_border.h); it is used where
  /// nothing stands against it.
  explicit LinearGroup(std::vector<LinearPart> parts,
                       std::shared_ptr<LinearBorder> border = nullptr);

  /// What gradients are made for, five a part: w, bias, a, b, magnitude; undefined where missing.
  std::vector<Tensor> inputs() const;
  enum Input { kW, kBias, kA, kB, kMagnitude, kInputs };
  size_t num_inputs() const { return kInputs * parts_.size(); }
  /// Columns that should be free behind x, and behind the gradients of the outputs.
  int64_t spare() const;
  /// Whether the outputs are neighbouring columns of one matrix, where their gradients should be.
  bool is_joined() const { return border_ != nullptr; }
  /// Whether x and the joined gradients are rounded to eight bits for the products.
  bool is_float8() const;

  /// Outputs for x [N, in]. `needs`, from `first` on: which inputs() will want a gradient. The
  /// gradients of joined outputs may take their memory.
  /// `rounded`: x in eight bits, where is_float8() and the caller has it already.
  std::vector<Tensor> forward(const Tensor& x, const std::vector<bool>& needs, size_t first,
                              const Float8Rows* rounded = nullptr);
  /// Drops what forward() kept, which will run once more before the backward pass.
  void forget() { kept_.clear(), border_down_ = Tensor(); }
  /// Whether gradients() will read x.
  bool reads_input() const;
  /// From the gradients of the outputs, once: that of x, if wanted. `rounded`: as above, of the
  /// joined gradients.
  Tensor input_gradient(const std::vector<Tensor>& dys, bool wanted,
                        const Float8Rows* rounded = nullptr);
  /// After it: those of inputs(), undefined where not needed. x: undefined unless reads_input().
  std::vector<Tensor> gradients(const Tensor& x);

 private:
  /// What a part leaves from forward() to input_gradient() to gradients().
  struct Kept {
    Tensor mask, factor;  ///< of dropout; DoRA's magnitude / norm
    Tensor down, z;       ///< (dropped) x A^T; DoRA: the product before the factor
    Tensor dy, g, gb;     ///< gradient of the output, that times the factor, and g s B
    Tensor magnitude_gradient;
  };
  bool needs(size_t part, Input input) const { return needs_[part * kInputs + input]; }
  bool any_needs(Input input) const;
  Tensor forward_part(size_t i, const Tensor& x, const class Packed& packed);
  std::vector<Tensor> forward_bordered(const Tensor& x, const Float8Rows* rounded);
  Tensor input_gradient_bordered(const std::vector<Tensor>& dys, bool wanted,
                                 const Float8Rows* rounded);
  void gradients_bordered(const Tensor& x, std::vector<Tensor>& grads);

  std::vector<LinearPart> parts_;
  std::shared_ptr<LinearBorder> border_;
  std::vector<bool> needs_;
  std::vector<Kept> kept_;
  Tensor border_down_, border_dy_, border_gb_;  ///< x A^T, dY and dY sB of all parts
};

}  // namespace ft
