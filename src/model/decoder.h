// Tokens to hidden states, for every family: the whole forward pass.
#pragma once

#include <vector>

#include "data/batch.h"
#include "model/kv_cache.h"
#include "model/linear.h"
#include "model/spec.h"

namespace ft {

/// Angles of the rotary embedding: cosines and sines, [N, D/2] float32.
struct Rotation {
  Tensor cos, sin;
};

/// A packed batch on its device, with what every layer needs of it computed once.
struct Sequence {
  Tensor tokens;                       ///< [N] int64
  Tensor targets;                      ///< [N] int64, undefined when there are none
  Rotation rotation, window_rotation;  ///< of all layers, of those with a window
  Documents documents;
  KvCache* cache = nullptr;
};

/// Weights of a block. The norms are named as in the checkpoint; what post_attention_layernorm
/// means depends on the family: the norm before the MLP, or (Gemma 2, 3) that of attention's
/// output.
struct Block {
  Param* input_norm;
  Linear q, k, v, o;
  Param *q_norm, *k_norm;  ///< null: none
  Param* post_attention_norm;
  Param *pre_feedforward_norm, *post_feedforward_norm;  ///< null: none
  Linear gate, up, down;
};

struct Decoder {
  ModelSpec spec;
  at::ScalarType dtype = at::kFloat;  ///< of activations
  Param* embed = nullptr;             ///< [V, C]
  std::vector<Block> blocks;
  Param* norm = nullptr;
  Param* head = nullptr;          ///< [V, C]; the embedding itself when tied
  bool recompute_blocks = false;  ///< "gradient checkpointing"

  /// NEFTune (Jain et al. 2023): uniform noise on the embeddings, within alpha / sqrt(T C) for a
  /// document of T tokens. Off while the key is 0, which is so outside of training.
  double noise_alpha = 0;
  uint64_t noise_key = 0;

  /// Token ids [N] -> their embeddings as the first block takes them, [N, C].
  Tensor embed_tokens(const Tensor& tokens) const;
  /// Hidden states after the final norm, [N, C].
  Tensor forward(const Sequence& sequence) const;
  /// x [N, C] -> [N, C] through block `layer`.
  Tensor run_block(int64_t layer, const Tensor& x, const Sequence& sequence) const;
  /// Logits of hidden states h [n, C] -> [n, V] in h's dtype, capped where the family does.
  Tensor logits(const Tensor& h) const;

  std::vector<Linear*> linears();
};

/// Puts a batch (or its bare tokens and positions) on the device.
Sequence make_sequence(const ModelSpec& spec, const Batch& batch, at::Device device);

/// The same for a whole training batch; what is computed of it may be longer than the batch by some
/// rows without targets.
Sequence make_training_sequence(const ModelSpec& spec, const Batch& batch, at::Device device);

/// Builds a decoder over the parameters of a store that holds all of the checkpoint's names.
Decoder make_decoder(const ModelSpec& spec, ParamStore& params, at::ScalarType dtype);

}  // namespace ft
