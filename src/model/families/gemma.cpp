// Gemma 1, 2 and 3 (Gemma Team 2024, 2025): norms that multiply by 1 + w, embeddings times sqrt(C),
// the tanh form of GELU (which "gelu" in old files means too). Gemma 2 caps scores and logits and
// gives every other layer a window, from layer 0; Gemma 3 norms q and k instead, and five of six
// layers have a window and a rotation of their own. Defaults are those of transformers' classes:
// the published Gemma 3 files leave most fields out.
#include "base/error.h"
#include "model/families.h"

namespace ft {
namespace {

constexpr int64_t kWindow = 4096;

ModelSpec read_gemma(const Json& config, const ConfigDefaults& defaults, const char* activation,
                     const std::string& where) {
  ModelSpec s = read_common(config, defaults, where);
  s.activation = Activation::kGeluTanh;
  want_activation(config, activation, s.activation, where);
  read_attention_bias(config, s, where);
  s.norm.adds_one = true;
  s.scales_embedding = true;
  if (get_bool(config, "use_bidirectional_attention", where).value_or(false))
    fail_input(where,
               ": use_bidirectional_attention: true is not supported; a causal language "
               "model is wanted");
  return s;
}

void read_query_scalar(const Json& config, ModelSpec& s, const std::string& where) {
  s.query_scalar = get_double(config, "query_pre_attn_scalar", where).value_or(256);
  if (!(s.query_scalar > 0))
    fail_input(where, ": query_pre_attn_scalar: ", s.query_scalar, ", a positive number is wanted");
}

/// Local and global rotation: nested in rope_parameters (transformers 5), or in three old keys.
void read_gemma3_rope(const Json& config, ModelSpec& s, const std::string& where) {
  const Json* parameters = config.get_set("rope_parameters");
  const auto part = [&](const char* key) {
    return parameters && parameters->is_object() ? parameters->get_set(key) : nullptr;
  };
  s.rope = read_rope(config, part("full_attention"), 1e6, where);
  Json local = Json::Object{};
  local.set("rope_theta", get_double(config, "rope_local_base_freq", where).value_or(10000));
  s.window_rope = read_rope(local, part("sliding_attention"), 10000, where);
}

}  // namespace

ModelSpec make_gemma(const Json& config, const std::string& where) {
  const char* key = config.get_set("hidden_activation") ? "hidden_activation" : "hidden_act";
  return read_gemma(config, {256000, 3072, 24576, 28, 16, 16, 256, 8192, true}, key, where);
}

ModelSpec make_gemma2(const Json& config, const std::string& where) {
  ModelSpec s = read_gemma(config, {256000, 2304, 9216, 26, 8, 4, 256, 8192, true},
                           "hidden_activation", where);
  s.has_output_norms = true;
  read_query_scalar(config, s, where);
  s.attention_softcap = read_softcap(config, "attn_logit_softcapping", 50, where);
  s.logit_softcap = read_softcap(config, "final_logit_softcapping", 30, where);
  read_windows(
      config, read_size(config, "sliding_window", kWindow, where),
      [](int64_t layer, int64_t) { return layer % 2 == 0; }, 0, s, where);
  return s;
}

ModelSpec make_gemma3_text(const Json& config, const std::string& where) {
  ModelSpec s = read_gemma(config, {262208, 2304, 9216, 26, 8, 4, 256, 131072, true},
                           "hidden_activation", where);
  s.has_output_norms = s.has_qk_norm = true;
  read_query_scalar(config, s, where);
  s.logit_softcap = read_softcap(config, "final_logit_softcapping", std::nullopt, where);
  read_gemma3_rope(config, s, where);
  const char* pattern = config.get_set("sliding_window_pattern") ? "sliding_window_pattern"
                                                                 : "_sliding_window_pattern";
  read_windows(
      config, read_size(config, "sliding_window", kWindow, where),
      [](int64_t layer, int64_t every) { return (layer + 1) % every != 0; },
      read_size(config, pattern, 6, where), s, where);
  return s;
}

/// Image and text: the language model is in text_config. transformers caps its logits nowhere.
ModelSpec make_gemma3(const Json& config, const std::string& where) {
  const Json* text = config.get_set("text_config");
  if (text && !text->is_object()) fail_input(where, ": text_config: an object is wanted");
  ModelSpec s = make_gemma3_text(text ? *text : Json(Json::Object{}), where + ": text_config");
  s.is_tied = get_bool(config, "tie_word_embeddings", where).value_or(s.is_tied);
  s.logit_softcap = 0;
  s.has_vision = true;
  return s;
}

}  // namespace ft
