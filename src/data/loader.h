// The order in which a run sees its data: shuffled rows per epoch, a pure function of (seed,
// epoch), so that resuming needs the step number and nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "data/batch.h"
#include "finetune/config.h"

namespace ft {

class Loader {
 public:
  /// Keeps a reference to `examples`.
  Loader(const std::vector<Example>& examples, const RunConfig& config);

  int64_t num_rows() const { return static_cast<int64_t>(rows_.size()); }
  int64_t steps_per_epoch() const;
  /// Optimizer steps of the run: epochs * steps_per_epoch, cut by train.max_steps.
  int64_t num_steps() const;
  /// The micro-batches of step 0, 1, ...: gradient_accumulation_steps of them, fewer at the end of
  /// an epoch.
  std::vector<Batch> step(int64_t index);
  /// Tokens the rows of one epoch hold, and the share of row capacity they fill.
  int64_t tokens_per_epoch() const;
  double occupancy() const;
  const std::vector<std::vector<int64_t>>& rows() const { return rows_; }

 private:
  void shuffle_for(int64_t epoch);

  const std::vector<Example>& examples_;
  int64_t batch_size_, accumulation_, epochs_, max_length_, seed_;
  std::optional<int64_t> max_steps_;
  bool shuffle_, packing_;
  std::vector<std::vector<int64_t>> rows_;  ///< packed once, in packing order
  std::vector<int64_t> order_;              ///< this epoch's order of rows_
  int64_t epoch_ = -1;
};

}  // namespace ft
