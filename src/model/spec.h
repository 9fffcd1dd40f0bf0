// The choices that tell one decoder architecture from another. A family is a function from
// config.json to this (families.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "kernels/settings.h"

namespace ft {

/// Rotary embedding: base frequency and how the frequencies are stretched for longer contexts.
struct RopeSpec {
  double theta = 10000;
  std::string type = "default";  ///< default | linear | llama3
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
  double original_max_positions = 8192;              ///< llama3
};

struct ModelSpec {
  std::string family;  ///< model_type of config.json
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0;
  int64_t num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t max_positions = 0;
  NormSettings norm;
  RopeSpec rope;
  std::optional<RopeSpec> window_rope;  ///< of layers with a window, where it is another one
  std::vector<int64_t> windows;         ///< per layer, tokens seen with the own one; 0: all
  Activation activation = Activation::kSilu;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool has_qk_norm = false;  ///< norms over D on q and k, before the rotation
  bool has_output_norms =
      false;  ///< norms on the outputs of attention and MLP as well (Gemma 2, 3)
  bool scales_embedding = false;  ///< by sqrt(C), rounded to the embedding's dtype (Gemma)
  double query_scalar = 0;        ///< scores are divided by its root; 0: D
  double attention_softcap = 0, logit_softcap = 0;  ///< 0: none
  bool is_tied = false;                             ///< the output head is the embedding

  bool is_4bit = false;  ///< the checkpoint's linear layers are packed by bitsandbytes

  /// An image and text checkpoint, of which this is the language model.
  bool has_vision = false;
  /// Module path of embedding, layers and norm in transformers' model: `model.`, or
  /// `model.language_model.` inside an image and text model. The parameters' names begin with it.
  std::string trunk() const { return has_vision ? "model.language_model." : "model."; }

  AttentionSettings attention(int64_t layer) const;
  /// Numbers in the linear layers of a block.
  int64_t block_weights() const;
};

/// config.json -> spec through the table of families. Error (input) names `where` and the key.
ModelSpec make_spec(const Json& config, const std::string& where);

/// The object of config.json that describes the language model: `text_config` where there is one.
const Json& text_config(const Json& config);

/// Frequencies of the D/2 pairs, float32, in radians a position.
std::vector<float> rope_frequencies(const RopeSpec& rope, int64_t head_dim);

}  // namespace ft
