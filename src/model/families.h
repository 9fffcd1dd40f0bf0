// What the files in families/ are made of: one function per family, and readers for what their
// configs share. Every reader takes `where` (the file) for its errors.
#pragma once

#include <string_view>

#include "model/spec.h"

namespace ft {

/// Values for absent fields: those of transformers' config class of the family.
struct ConfigDefaults {
  int64_t vocab_size, hidden_size, intermediate_size, num_layers, num_heads;
  int64_t num_kv_heads;  ///< 0: as many as heads
  int64_t head_dim;      ///< 0: hidden_size / num_heads
  int64_t max_positions;
  bool is_tied;
};

/// Sizes, eps, the tied flag and one rotation for all layers; full attention everywhere.
ModelSpec read_common(const Json& config, const ConfigDefaults& defaults, const std::string& where);

/// A size or a count: positive and within reason.
int64_t read_size(const Json& config, const char* key, int64_t fallback, const std::string& where);

/// rope_parameters (transformers 5) or rope_theta and rope_scaling (before). A rope_scaling that is
/// not null wins, as in transformers. `parameters`: the object to take for rope_parameters, or
/// null.
RopeSpec read_rope(const Json& config, const Json* parameters, double default_theta,
                   const std::string& where);

/// Fails unless `key` is absent or one of the names that mean this activation.
void want_activation(const Json& config, const char* key, Activation activation,
                     const std::string& where);

/// attention_bias: one flag for q, k, v and o.
void read_attention_bias(const Json& config, ModelSpec& spec, const std::string& where);

/// Window of each layer: `layer_types` where the file has it, otherwise slides(layer). A window of
/// nullopt means none at all.
void read_windows(const Json& config, std::optional<int64_t> window,
                  bool (*slides)(int64_t layer, int64_t parameter), int64_t parameter,
                  ModelSpec& spec, const std::string& where);

/// The two caps of Gemma 2 and 3, null or absent: none.
double read_softcap(const Json& config, const char* key, std::optional<double> fallback,
                    const std::string& where);

}  // namespace ft
