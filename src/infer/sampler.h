// The next token from a row of logits: penalties, temperature, top-k, top-p, min-p, in the order of
// transformers.
#pragma once

#include <cstdint>
#include <vector>

#include "base/seed.h"
#include "finetune/run.h"

namespace ft {

/// logits [V] are changed in place. `seen`: the tokens of prompt and answer so far, for the
/// repetition penalty. Greedy when the temperature is 0 (ties: the lowest id).
int32_t sample_token(std::vector<float>& logits, const std::vector<int32_t>& seen,
                     const SamplingOptions& options, Rng& rng);

}  // namespace ft
