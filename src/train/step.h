// One optimizer step: the path that every number of a run comes from.
#pragma once

#include <string>
#include <vector>

#include "adapters/adapters.h"
#include "data/batch.h"
#include "kernels/on_the_way.h"
#include "train/optimizer.h"

namespace ft {

struct StepResult {
  double loss = 0;       ///< sum of losses / number of targets, over the whole step
  double grad_norm = 0;  ///< before clipping
  int64_t tokens = 0, targets = 0;
};

/// What a step works on.
struct StepContext {
  Model& model;
  AdapterSet* adapters;  ///< null for full fine-tuning
  Optimizer& optimizer;
  const RunConfig& config;
};

/// A step that the device may still be at.
struct StepInFlight {
  int64_t index = 0;
  StepResult counts;  ///< its tokens and targets
  size_t num_losses = 0;
  OnTheWay numbers;  ///< the loss of each micro-batch; the norm, or fused sums (Optimizer)
};
/// Forward and backward over the micro-batches of step `index` (from 0), clip, update with
/// `learning_rate`: a GPU's work is queued and not waited for.
StepInFlight begin_step(const StepContext& context, const std::vector<Batch>& batches,
                        int64_t index, double learning_rate);
/// Its numbers, when they are there. A loss or norm that is not finite leaves the weights as they
/// were, whatever was begun since, and throws Error (run); with train.fused_update a gradient that
/// is not finite comes after updates of other tensors (Optimizer::refused()).
StepResult finish_step(const StepContext& context, StepInFlight& step);
/// Both.
StepResult train_step(const StepContext& context, const std::vector<Batch>& batches, int64_t index,
                      double learning_rate);

/// After a step that was refused: the first tensor in the order of the checkpoint that is not
/// finite, a weight or, found by one more pass over its batches, `the gradient of NAME`; empty when
/// neither is.
std::string first_not_finite(const StepContext& context, const std::vector<Batch>& batches,
                             int64_t index);

/// What gradients are multiplied with (torch: at most max_norm / (norm + 1e-6); 0: no limit),
/// float64 on the device of norm; NaN where the loss or the norm is not finite.
Tensor clip_scale(const Tensor& loss, const Tensor& norm, double max_norm);

}  // namespace ft
