// The choices that tell one decoder architecture from another. A family is a function from
// config.json to this.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "kernels/kernels.h"

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
  double norm_eps = 1e-6;
  RopeSpec rope;
  Activation activation = Activation::kSilu;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool is_tied = false;  ///< the output head is the embedding
  double attention_scale() const;
};

/// config.json -> spec through the table of families. Error (input) names `where` and the key.
ModelSpec make_spec(const Json& config, const std::string& where);

/// Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (before). A rope_scaling
/// that is not null wins, as in transformers.
RopeSpec read_rope(const Json& config, double default_theta, const std::string& where);

/// Frequencies of the D/2 pairs, float32, in radians a position.
std::vector<float> rope_frequencies(const RopeSpec& rope, int64_t head_dim);

}  // namespace ft
