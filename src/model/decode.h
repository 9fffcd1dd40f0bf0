// The forward pass of decoding where it is nothing but reading weights.
#pragma once

#include <optional>

#include "model/decoder.h"

namespace ft {

/// The final hidden state [1, C] of one new token of one sequence in the cache, from its embedding
/// x [1, C]: to the bit that of the blocks one by one. nullopt unless all weights are plain
/// bfloat16 ones that the matrix unit's code takes as they are.
std::optional<Tensor> decode_token(const Decoder& decoder, const Tensor& x, const Sequence& s);

}  // namespace ft
