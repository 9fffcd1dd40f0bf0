// Mistral (Jiang et al. 2023): Llama's graph without biases, and a window on every layer where
// sliding_window is not null.
#include "model/families.h"

namespace ft {

ModelSpec make_mistral(const Json& config, const std::string& where) {
  ModelSpec s = read_common(config, {32000, 4096, 14336, 32, 32, 8, 0, 131072, false}, where);
  want_activation(config, "hidden_act", Activation::kSilu, where);
  const Json* window = config.get("sliding_window");
  if (!window || !window->is_null())
    s.windows.assign(static_cast<size_t>(s.num_layers),
                     read_size(config, "sliding_window", 4096, where));
  return s;
}

}  // namespace ft
