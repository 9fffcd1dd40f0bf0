// What the model and the tokenizer of a run are, so that a resumed run can tell when they have
// changed; of data see Rows::fingerprint().
#pragma once

#include "base/json.h"
#include "finetune/config.h"

namespace ft {

/// Key (model, tokenizer) -> fingerprint: content, but of weights names, shapes and samples.
Json fingerprints(const RunConfig& config);

}  // namespace ft
