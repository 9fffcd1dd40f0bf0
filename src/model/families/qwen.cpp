// Qwen 2, 2.5 (Yang et al. 2024) and 3: Llama's graph; Qwen 2 with biases on q, k and v, Qwen 3
// with norms on q and k. use_sliding_window is off in the published models, whatever sliding_window
// says.
#include "model/families.h"

namespace ft {
namespace {

void read_qwen_windows(const Json& config, ModelSpec& s, const std::string& where) {
  std::optional<int64_t> window;
  const Json* value = config.get("sliding_window");
  if (get_bool(config, "use_sliding_window", where).value_or(false) && !(value && value->is_null()))
    window = read_size(config, "sliding_window", 4096, where);
  const int64_t first = get_int(config, "max_window_layers", where).value_or(28);
  read_windows(
      config, window, [](int64_t layer, int64_t first_layer) { return layer >= first_layer; },
      first, s, where);
}

}  // namespace

ModelSpec make_qwen2(const Json& config, const std::string& where) {
  ModelSpec s = read_common(config, {151936, 4096, 22016, 32, 32, 32, 0, 32768, false}, where);
  want_activation(config, "hidden_act", Activation::kSilu, where);
  s.qkv_bias = true;
  read_qwen_windows(config, s, where);
  return s;
}

ModelSpec make_qwen3(const Json& config, const std::string& where) {
  ModelSpec s = read_common(config, {151936, 4096, 22016, 32, 32, 32, 128, 32768, false}, where);
  want_activation(config, "hidden_act", Activation::kSilu, where);
  read_attention_bias(config, s, where);
  s.has_qk_norm = true;
  read_qwen_windows(config, s, where);
  return s;
}

}  // namespace ft
