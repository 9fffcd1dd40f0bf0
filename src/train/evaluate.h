// Loss over an evaluation set.
#pragma once

#include <functional>
#include <vector>

#include "data/batch.h"
#include "model/load.h"

namespace ft {

struct Losses {
  double sum = 0;
  int64_t targets = 0;
  bool is_complete = true;  ///< not stopped on the way
  double mean() const { return targets ? sum / static_cast<double>(targets) : 0; }
};

/// Sum of losses over the examples, several packed into a forward pass of about `max_tokens`.
/// `on_example` gets, for each example in order, the losses of its targets. Ends early, between two
/// passes, when `should_stop` says so.
Losses evaluate_examples(
    const Model& model, const std::vector<Example>& examples, int64_t max_tokens,
    const std::function<void(size_t, const std::vector<float>&)>& on_example = {},
    const std::function<bool()>& should_stop = {});

}  // namespace ft
