// Weights that lie in the checkpoint in four bits (bitsandbytes): which they are, and reading them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/safetensors.h"
#include "kernels/quantized.h"

namespace ft {

/// Weights of a checkpoint by our names.
using StoredByName = std::map<std::string, const StoredTensor*>;

/// The weight `name` [out, in] from its packed tensor and its companions (NAME.absmax and so on),
/// which are taken out of `stored`; null when it is not packed. Zero copy where alignment allows.
/// Error (input) naming what is missing or does not fit.
std::unique_ptr<QuantizedWeight> take_packed_weight(StoredByName& stored, const std::string& name,
                                                    const std::vector<int64_t>& shape,
                                                    const std::string& where);

}  // namespace ft
