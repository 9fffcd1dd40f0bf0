// RoPE scaling of a GGUF file as Hugging Face's rope_scaling / rope_parameters.
#pragma once

#include <string>

#include "base/gguf.h"
#include "base/json.h"
#include "data/gguf_convert_model.h"

namespace ft {

/// rope_scaling of config.json; null when positions are not scaled. Sources: the keys
/// `<architecture>.rope.scaling.*` (linear) and the tensor rope_freqs.weight (llama3). Error
/// (input) for anything else.
Json read_rope_scaling(const GgufFile& file, const std::string& architecture,
                       const GgufSizes& sizes, double theta);

/// The transformers 5 form of the same: scaling (may be null) and theta in one object.
Json rope_parameters(const Json& scaling, double theta);

}  // namespace ft
