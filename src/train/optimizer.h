// Gradients of a step and the AdamW state of every trained tensor, in float32 or 8 bits, in the
// device's memory or paged.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "finetune/config.h"
#include "kernels/kernels.h"
#include "model/params.h"
#include "train/paged_states.h"

namespace ft {

class Optimizer {
 public:
  /// `folder` is where a paged optimizer on the CPU keeps its file.
  Optimizer(std::vector<Param*> params, const TrainConfig& config, uint64_t run_seed,
            const std::filesystem::path& folder = {});
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Takes the gradients that a backward pass left, adding them to those of earlier micro-batches
  /// of the step. A second micro-batch moves bfloat16 gradients into float32 sums.
  void collect();
  /// L2 norm over all collected gradients: a float64 scalar on their device, which is not waited
  /// for.
  Tensor gradient_norm() const;
  /// One AdamW update with gradients times `grad_scale`, a float64 scalar on their device, then
  /// drops them. step counts from 1. Where the scale is NaN nothing is updated, nor by any call
  /// after it: who reads it later finds everything as it was before.
  void update(double learning_rate, const Tensor& grad_scale, int64_t step);
  void drop_gradients();

  /// train.fused_update: in the backward pass of `loss` that follows, each gradient is applied as
  /// soon as it is complete, and dropped. One that is not finite is not, nor is any after it; none
  /// is where the loss is not finite.
  void begin_fused(double learning_rate, const Tensor& loss, int64_t step);
  /// After that pass: the sum of squares of each gradient, float64 scalars that are not waited for.
  std::vector<Tensor> end_fused();
  /// The norm they make, the same bits as gradient_norm()'s. The first that is not finite is
  /// refused() from then on: what came before it in that pass was updated.
  double fused_norm(const std::vector<double>& sums);
  const Param* refused() const { return refused_; }

  /// The gradient collected for a parameter, undefined when it got none.
  Tensor gradient(const std::string& name) const;

  /// State by name ("<parameter>.exp_avg", ...), for checkpoints; the tensors are the live ones.
  std::vector<std::pair<std::string, Tensor>> state() const;
  /// Whether the states lie outside the device's memory.
  bool is_paged() const { return pages_ || staging_; }
  /// Says that a part of a state's memory has been read or written: paged on the CPU it leaves the
  /// resident set.
  void release(const void* data, size_t size) const;

 private:
  struct Slot {
    Param* param;
    bool decays;
    MasterWeights master;
    Tensor grad;
    StateTensors state{};
    Tensor square_sum{};  ///< of a fused update's gradient
  };
  void add_state(Slot& slot);
  AdamwSettings settings_of(size_t index) const;
  /// Whether anything is to be updated with `scale`, as far as the host knows; `by_kernels`: they
  /// read it themselves.
  bool take_scale(const Tensor& scale, bool by_kernels);
  void update_slot(size_t index, size_t next);
  void update_pieces(Slot& slot, AdamwSettings settings);
  void update_tensors(const Tensor& param, const Tensor& grad, const StateTensors& state,
                      const AdamwSettings& settings) const;
  void apply_fused(size_t index);

  std::vector<Slot> slots_;
  TrainConfig config_;
  uint64_t seed_;
  std::optional<PageFile> pages_;
  std::optional<DeviceStaging> staging_;
  Tensor tables_;  ///< of 8-bit states
  Tensor poison_;  ///< 0, or NaN once a scale was: update()
  Tensor device_scale_;
  double grad_scale_ = 1;
  double rate_ = 0;
  int64_t step_ = 0;           ///< what is being applied
  std::vector<size_t> order_;  ///< in which a fused pass applied the slots
  const Param* refused_ = nullptr;
};

/// Weight decay skips norms and biases and covers everything else, every adapter tensor included.
bool decays(const std::string& name);

}  // namespace ft
