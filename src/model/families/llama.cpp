// Llama 2, 3, 3.1, 3.2 and models of that shape (Touvron et al. 2023). Defaults for absent fields
// are those of transformers' LlamaConfig.
#include "model/families.h"

namespace ft {

ModelSpec make_llama(const Json& config, const std::string& where) {
  ModelSpec s = read_common(config, {32000, 4096, 11008, 32, 32, 0, 0, 2048, false}, where);
  want_activation(config, "hidden_act", Activation::kSilu, where);
  read_attention_bias(config, s, where);
  s.mlp_bias = get_bool(config, "mlp_bias", where).value_or(false);
  return s;
}

}  // namespace ft
