// One optimizer step: the path that every number of a run comes from.
#pragma once

#include <vector>

#include "adapters/adapters.h"
#include "data/batch.h"
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

/// Forward and backward over the micro-batches of step `index` (from 0), clip, update with
/// `learning_rate`. A loss or norm that is not finite leaves the weights as they were and throws
/// Error (run); with train.fused_update a gradient that is not finite comes after updates of other
/// tensors (Optimizer::refused()).
StepResult train_step(const StepContext& context, const std::vector<Batch>& batches, int64_t index,
                      double learning_rate);

}  // namespace ft
