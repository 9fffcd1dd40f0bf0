// The learning rate of a step. Definitions are those of transformers' schedulers.
#pragma once

#include <cstdint>

#include "finetune/config.h"

namespace ft {

/// The rate used by step `step` (from 0) of `num_steps`: linear warm-up from 0, then constant,
/// linear to 0, or half a cosine to 0. warmup_steps below 1 is a share of the run, rounded up.
double learning_rate_at(const TrainConfig& config, double peak, int64_t step, int64_t num_steps);

}  // namespace ft
