// The settings that a configuration leaves open and a run decides before it does anything.
#pragma once

#include "finetune/config.h"

namespace ft {

/// train.learning_rate auto becomes a number; with lora.resume_from the adapter's own rank, alpha,
/// targets and the rest take the place of what was left out. Error (usage) when the configuration
/// names one of them and it says otherwise, Error (input) when the adapter cannot be read.
RunConfig resolve(RunConfig config);

}  // namespace ft
