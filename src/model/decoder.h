// Tokens to hidden states, for every family: the whole forward pass.
#pragma once

#include <vector>

#include "data/batch.h"
#include "model/block.h"

namespace ft {

struct Decoder {
  ModelSpec spec;
  at::ScalarType dtype = at::kFloat;  ///< of activations
  Param* embed = nullptr;             ///< [V, C]
  std::vector<Block> blocks;
  Param* norm = nullptr;
  Param* head = nullptr;  ///< [V, C]; the embedding itself when tied
  Recompute recompute = Recompute::kNothing;

  /// NEFTune (Jain et al. 2023): uniform noise on the embeddings, within alpha / sqrt(T C) for a
  /// document of T tokens. Off while the key is 0, which is so outside of training.
  double noise_alpha = 0;
  uint64_t noise_key = 0;

  /// Token ids [N] -> their embeddings as the first block takes them, [N, C].
  Tensor embed_tokens(const Tensor& tokens) const;
  /// Hidden states after the final norm, [N, C]; with `only_targets` of the rows that have targets,
  /// for which alone the last MLP is run.
  Tensor forward(const Sequence& sequence, bool only_targets = false) const;
  /// Logits of hidden states h [n, C] -> [n, V] in h's dtype, capped where the family does.
  Tensor logits(const Tensor& h) const;

  std::vector<Linear*> linears();
  /// On a GPU, with adapters in place: the frozen weights with these around them, block by block.
  void add_borders(bool in_float8);
};

/// Puts a batch (or its bare tokens and positions) on the device.
Sequence make_sequence(const ModelSpec& spec, const Batch& batch, at::Device device);

/// The same for a whole training batch; what is computed of it may be longer than the batch by some
/// rows without targets.
Sequence make_training_sequence(const ModelSpec& spec, const Batch& batch, at::Device device);

/// Builds a decoder over the parameters of a store that holds all of the checkpoint's names.
Decoder make_decoder(const ModelSpec& spec, ParamStore& params, at::ScalarType dtype);

}  // namespace ft
