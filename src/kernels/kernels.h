// THE CATALOGUE: every fused op, its shapes and its contract. Each has a plain ATen twin (in
// <op>.cpp, first function) that `kernels: reference` selects; most have hand-written loops for the
// CPU (cpu_loops.h) and kernels for CUDA (launch.h).
// Letters: N tokens (documents end to end), C model width, H query heads, K key/value heads, D head
// size, F feed-forward width, V vocabulary, R adapter rank, S documents.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/ops.h"
#include "kernels/quantized.h"
#include "kernels/settings.h"

namespace ft {

struct Float8Rows;

/// Root-mean-square norm over the last axis (Zhang & Sennrich 2019). x [.., C], w [C].
/// Computed in float32; what w does and when is rounded is transformers' LlamaRMSNorm or
/// GemmaRMSNorm (settings.adds_one), to the rounding.
Tensor rms_norm(const Tensor& x, const Tensor& w, const NormSettings& settings);

/// Room behind the rows of what an op makes, for the columns that linear layers with a border put
/// there (linear_border.h): of the norm, and of the gradient of what was added.
struct SpareColumns {
  int64_t of_norm = 0, of_gradient = 0;
};
/// [rows, columns] of like's kind, with that room.
Tensor empty_rows(at::IntArrayRef sizes, int64_t spare, const Tensor& like);

/// dx and, where dw is defined, dw (float32, added to) of a norm of heads x [N, heads, D]; CPU
/// only.
void rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& w,
                       const NormSettings& settings, const Tensor& dx, const Tensor& dw);

struct SumAndNorm {
  Tensor sum, norm;
};
/// sum = x + y, where y_weight is defined x + rms_norm(y, y_weight); norm = rms_norm(sum, w). x, y
/// [N, C]. Undefined y: the sum is x; undefined w: no norm is made. The gradient of the sum, which
/// is that of x, is rounded once.
SumAndNorm residual_norm(const Tensor& x, const Tensor& y, const Tensor& y_weight, const Tensor& w,
                         const NormSettings& settings, const SpareColumns& spare = {});

/// Angles of the rotary embedding: cosines and sines, [N, D/2] float32.
struct Rotation {
  Tensor cos, sin;
};
/// Rotary position embedding, "rotate half" form: pairs (i, i + D/2). x [N, heads, D].
Tensor rope(const Tensor& x, const Rotation& rotation);

/// Queries [N, H, D] and keys [N, K, D], a token's heads end to end; on the CPU dense. The keys may
/// be missing.
struct QueriesAndKeys {
  Tensor q, k;
};
/// Weights [D] of the norms that some families put on q and k before the rotation; undefined: none.
struct HeadNorms {
  Tensor q_weight, k_weight;
  NormSettings settings;
};
/// The two halves of an op for others to use, without a plain twin: q and k normed and rotated, in
/// place where there are no norms.
QueriesAndKeys rotate(const QueriesAndKeys& in, const HeadNorms& norms, const Rotation& rotation);
/// The gradients of q and k into `to`, from those of what came out, which are overwritten; `in`: q
/// and k before the norms, not read without any. `to` may be either of the two. Returns the
/// weights' gradients, undefined unless wanted.
std::vector<Tensor> rotate_backward(const QueriesAndKeys& grads, const QueriesAndKeys& in,
                                    const HeadNorms& norms, const Rotation& rotation,
                                    bool with_weights, const QueriesAndKeys& to);

/// act(gate) * up. gate, up [N, F].
Tensor gated_act(const Tensor& gate, const Tensor& up, Activation activation);
/// Its two halves for others to use, without a plain twin; rows dense, on CUDA of any stride.
/// `rounded`, where there is one, gets the output in eight bits too (float8.h).
Tensor gated_act_forward(const Tensor& gate, const Tensor& up, Activation activation, int64_t spare,
                         Float8Rows* rounded = nullptr);
/// Gradients into dgate and dup, which may be gate and up; `again`, where defined (it may be dy),
/// gets act(gate) * up once more; `rounded` dgate and dup beside each other.
void gated_act_backward(const Tensor& dy, const Tensor& gate, const Tensor& up,
                        Activation activation, const Tensor& dgate, const Tensor& dup,
                        const Tensor& again, Float8Rows* rounded = nullptr);

/// Where each document of a packed batch lies, on the host.
struct Documents {
  std::vector<int64_t> bounds;  ///< [S+1], bounds[0] == 0, bounds[S] == N
  Tensor device_bounds{};       ///< the same on a GPU, int32; made where it is missing
};
/// Causal attention inside each document, over all tokens before or a window of them. q [N, H, D],
/// k and v [N, K, D], H a multiple of K -> [N, H, D]. No [T, T] matrix is kept, and none is made
/// but by the plain twin.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Documents& documents,
                 const AttentionSettings& settings);

/// A weight to multiply with: a matrix, or one in four bits that becomes a matrix inside the op
/// only, in the forward and again in the backward pass. It has no gradient then.
struct LinearWeight {
  Tensor dense;                                      ///< [out, in]; undefined when in four bits
  std::shared_ptr<const QuantizedWeight> quantized;  ///< null when dense

  /// The matrix [out, in] in `dtype`; made for the call when it is in four bits.
  Tensor in(at::ScalarType dtype) const;
  int64_t out() const { return quantized ? quantized->out : dense.size(0); }
  int64_t in_features() const { return quantized ? quantized->in : dense.size(1); }
};

/// An adapter beside a linear layer (LoRA, Hu et al. 2021).
struct LoraOperands {
  Tensor a{};  ///< [R, in] float32 or x's dtype; undefined: no adapter
  Tensor b{};  ///< [out, R]
  double scale = 1;
  double dropout = 0;  ///< probability of dropping an element of the adapter's input
  uint64_t dropout_key =
      0;  ///< the mask is a pure function of it, so that a recomputed forward sees the same one
  uint64_t num_updates = 0;  ///< of A and B by the optimizer, which may write through bare pointers

  /// What is made of A and B is theirs as long as this stays: it tells steps of the optimizer, and
  /// operations on the tensors, which count in their versions.
  std::pair<uint64_t, int64_t> stamp() const {
    return {num_updates, a.defined() ? a._version() + b._version() : 0};
  }
};

/// A linear layer: x W^T + b, with an adapter x W^T + b + scale * drop(x) A^T B^T. With a DoRA
/// adapter (Liu et al. 2024), PEFT's semantics: with V = W + scale B A and f = magnitude / norm,
/// f * (x V^T) + b; where the adapter's input is dropped x W^T + b + (f - 1) * (drop(x) W^T) +
/// f * scale * (drop(x) A^T B^T). One product with W, two with DoRA under dropout.
struct LinearPart {
  LinearWeight w;
  Tensor bias{};  ///< [out]; undefined: none
  LoraOperands lora{};
  Tensor magnitude{};  ///< [out]; undefined: not DoRA
  Tensor norm{};       ///< [out], of V's rows: a constant, no gradient goes through it
};
/// x [N, in], in the weight's dtype or that in four bits -> [N, out]. One op, so that the backward
/// pass makes no gradient for what is frozen and sums the adapter's share of dX with the layer's.
Tensor linear(const Tensor& x, const LinearPart& layer);
/// L2 norm of each row of w + scale B A without making that: w's part `squares` (row_squares(w)) is
/// kept, the rest are products of rank R. float32 [out].
/// `precision`: of the product w A^T; float32, or that of the activations, whose rounding the norm
/// then shares.
Tensor dora_norm(const LinearWeight& w, const Tensor& squares, const LoraOperands& lora,
                 at::ScalarType precision = at::kFloat);
/// Sums of squares of the rows of w [out, in], float32 [out].
Tensor row_squares(const LinearWeight& w);

/// Keep-mask divided by the keep probability: [rows, columns] of x's dtype, a pure function of
/// `key`.
Tensor dropout_mask(int64_t rows, int64_t columns, double probability, uint64_t key,
                    at::ScalarType dtype, at::Device device);

/// Rows of w [V, C] by tokens [N] int64 -> [N, C]; gradient for w when it needs one.
Tensor embedding(const Tensor& tokens, const Tensor& w);

/// The rows of a batch that have a target, on a device; none is looked for there.
struct Targets {
  Tensor rows, values;       ///< [count] int64, or a little longer
  int64_t count = 0;         ///< only so many stand for something
  int64_t num_rows = 0;      ///< of the batch
  bool is_in_order = false;  ///< rows are 0, 1, ...
  /// Whether a part of the rows has targets, and others have none.
  bool is_part() const { return 0 < count && count < num_rows; }
};
/// targets: per row, kIgnore (-100) where there is none.
Targets make_targets(const std::vector<int64_t>& targets, at::Device device);
/// The rows of x [N, C] that have targets, and the targets of what that makes.
Tensor take_targets(const Tensor& x, const Targets& targets);
Targets targets_of_taken(const Targets& targets);

/// Sum over the rows with a target of -log softmax(h W^T)[target], in chunks of rows: the [N, V]
/// logits never exist at once, and rows without a target cost nothing. h [N, C], w [V, C] ->
/// float32 scalar. The gradient of h (and of w when it trains) is computed in the forward pass,
/// while a chunk is at hand. Logits l become softcap * tanh(l / softcap) where softcap is not 0.
Tensor linear_cross_entropy(const Tensor& h, const Tensor& w, const Targets& targets,
                            double softcap = 0);
/// The same per row, without gradient: [N] float32, 0 where there is no target.
Tensor token_losses(const Tensor& h, const Tensor& w, const Targets& targets, double softcap = 0);

/// x [..] -> cap * tanh(x / cap), rounded to x's dtype at each step as transformers does it; x
/// itself where cap is 0.
Tensor soft_cap(const Tensor& x, double cap);

/// AdamW with torch's semantics (decoupled decay, bias correction; Loshchilov & Hutter 2019), in
/// place. param float32 or bfloat16, grad any float dtype, exp_avg and exp_avg_sq float32. `extra`:
/// undefined, or kKahan: the compensation (param's dtype), kFloat32: the float32 weights.
void adamw(const Tensor& param, const Tensor& grad, const Tensor& exp_avg, const Tensor& exp_avg_sq,
           const Tensor& extra, const AdamwSettings& settings);
/// The same for many tensors of one device, on CUDA in a few launches.
struct AdamwTensors {
  Tensor param, grad, exp_avg, exp_avg_sq, extra;
  AdamwSettings settings;
};
void adamw(const std::vector<AdamwTensors>& all);

/// AdamW's moments as 8-bit codes (dynamic_map.h), one scale per kQuantizedBlock elements.
struct QuantizedMoments {
  Tensor exp_avg, exp_avg_sq;              ///< uint8, param's shape
  Tensor exp_avg_scale, exp_avg_sq_scale;  ///< float32 [blocks]
  Tensor tables;                           ///< make_dynamic_tables() of param's device
};
/// The signed map's values and middles, then the unsigned one's: float32 [4, 256].
Tensor make_dynamic_tables(at::Device device);
/// adamw() with moments that are float32 only while a block is updated (Dettmers et al. 2022).
void adamw8bit(const Tensor& param, const Tensor& grad, const QuantizedMoments& moments,
               const Tensor& extra, const AdamwSettings& settings);

}  // namespace ft
