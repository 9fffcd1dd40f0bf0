// Supervised fine-tuning: the sum of next-token losses over the targets of a batch.
#pragma once

#include "data/batch.h"
#include "model/load.h"

namespace ft {

/// Sum of negative log-likelihoods over the targets, float32 scalar with gradient.
Tensor sft_loss(const Model& model, const Batch& batch);

/// Per token, no gradient: [N] float32 on the host, 0 where there is no target.
Tensor sft_token_losses(const Model& model, const Batch& batch);

}  // namespace ft
