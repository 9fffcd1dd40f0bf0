// What the files that a run reads are, so that a resumed run can tell when they have changed.
#pragma once

#include <map>
#include <string>

#include "finetune/config.h"

namespace ft {

/// Key of the configuration (model, tokenizer, data.train, data.eval) -> fingerprint of what it
/// names: content, but of weights only sizes and headers.
std::map<std::string, std::string> fingerprints(const RunConfig& config);

}  // namespace ft
