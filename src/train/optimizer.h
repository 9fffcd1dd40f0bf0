// Gradients of a step and the AdamW state of every trained tensor.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "finetune/config.h"
#include "kernels/kernels.h"
#include "model/params.h"

namespace ft {

class Optimizer {
 public:
  Optimizer(std::vector<Param*> params, const TrainConfig& config, uint64_t run_seed);

  /// Takes the gradients that a backward pass left, adding them to those of earlier micro-batches
  /// of the step. A second micro-batch moves bfloat16 gradients into float32 sums.
  void collect();
  /// L2 norm over all collected gradients.
  double gradient_norm() const;
  /// One AdamW update with gradients times `grad_scale`, then drops them. step counts from 1.
  void update(double learning_rate, double grad_scale, int64_t step);
  void drop_gradients();
  /// The gradient collected for a parameter, undefined when it got none.
  Tensor gradient(const std::string& name) const;

  /// State by name ("<parameter>.exp_avg", ...), for checkpoints; the tensors are the live ones.
  std::vector<std::pair<std::string, Tensor>> state() const;

 private:
  struct Slot {
    Param* param;
    bool decays;
    Tensor grad, exp_avg, exp_avg_sq, extra;
    MasterWeights master;
  };
  std::vector<Slot> slots_;
  TrainConfig config_;
  uint64_t seed_;
};

/// Weight decay skips norms and biases and covers everything else, every adapter tensor included.
bool decays(const std::string& name);

}  // namespace ft
