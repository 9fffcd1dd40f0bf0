// One block of the decoder: norm and attention, norm and MLP, each with a residual.
#pragma once

#include <memory>

#include "kernels/linear_border.h"
#include "model/kv_cache.h"
#include "model/linear.h"
#include "model/spec.h"

namespace ft {

/// A packed batch on its device, with what every layer needs of it computed once.
struct Sequence {
  Tensor tokens;                       ///< [N] int64
  Targets targets;                     ///< none outside of training and evaluation
  Rotation rotation, window_rotation;  ///< of all layers, of those with a window
  Documents documents;
  KvCache* cache = nullptr;
};

/// Weights of a block. The norms are named as in the checkpoint; what post_attention_layernorm
/// means depends on the family: the norm before the MLP, or (Gemma 2, 3) that of attention's
/// output.
struct Block {
  Param* input_norm;
  Linear q, k, v, o;
  Param *q_norm, *k_norm;  ///< null: none
  Param* post_attention_norm;
  Param *pre_feedforward_norm, *post_feedforward_norm;  ///< null: none
  Linear gate, up, down;
  /// Of q, k, v; of o; of gate, up; of down. Null: none (add_borders()).
  std::shared_ptr<LinearBorder> qkv_border, o_border, gate_up_border, down_border;
};

/// What is computed again in the backward pass instead of kept ("gradient checkpointing").
enum class Recompute {
  kNothing,
  kGateUp,   ///< the outputs of gate and up, the widest of what a block keeps
  kBlocks,   ///< all of a block but its input
  kOffload,  ///< the same, and the inputs wait in host memory
};

/// What goes from block to block: x, and the output of the last MLP, which is still to be added,
/// through its norm where there is one. Adding is left to the next norm, which reads the sum
/// anyway.
struct Residual {
  Tensor x;                ///< [N, C]
  Tensor y{}, y_weight{};  ///< undefined: nothing is to be added; no norm
  int64_t spare = 0;       ///< room that is wanted behind y's gradient (SpareColumns)
};

/// How a block is run.
struct BlockRun {
  Recompute recompute = Recompute::kNothing;
  bool closed = false;        ///< nothing is left to be added
  bool only_targets = false;  ///< after attention go on with the rows that have targets
};
/// Through block `layer`.
Residual run_block(const Block& block, int64_t layer, const Residual& in, const Sequence& sequence,
                   const ModelSpec& spec, const BlockRun& how);

/// The norm after the last block.
Tensor final_norm(const Residual& in, const Param* weight, const ModelSpec& spec);

/// Moves the frozen weights of adapted layers into borders (kernels/linear_border.h), in eight bits
/// where that is wanted and their sizes allow it.
void add_borders(Block& block, at::ScalarType dtype, bool in_float8);

}  // namespace ft
