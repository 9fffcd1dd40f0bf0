// Llama 2, 3, 3.1, 3.2 and models of that shape. Defaults for absent fields are those of
// transformers' LlamaConfig.
#include "base/error.h"
#include "model/spec.h"

namespace ft {
namespace {

int64_t size_field(const Json& config, const char* key, int64_t fallback,
                   const std::string& where) {
  const int64_t value = get_int(config, key, where).value_or(fallback);
  if (value <= 0 || value > (int64_t{1} << 31))
    fail_input(where, ": ", key, ": ", value, " is no usable size");
  return value;
}

}  // namespace

ModelSpec make_llama(const Json& config, const std::string& where) {
  ModelSpec s;
  s.vocab_size = size_field(config, "vocab_size", 32000, where);
  s.hidden_size = size_field(config, "hidden_size", 4096, where);
  s.intermediate_size = size_field(config, "intermediate_size", 11008, where);
  s.num_layers = size_field(config, "num_hidden_layers", 32, where);
  s.num_heads = size_field(config, "num_attention_heads", 32, where);
  s.num_kv_heads = size_field(config, "num_key_value_heads", s.num_heads, where);
  s.head_dim = size_field(config, "head_dim", s.hidden_size / s.num_heads, where);
  s.max_positions = size_field(config, "max_position_embeddings", 2048, where);
  s.norm_eps = get_double(config, "rms_norm_eps", where).value_or(1e-6);
  s.rope = read_rope(config, 10000, where);
  s.is_tied = get_bool(config, "tie_word_embeddings", where).value_or(false);
  s.qkv_bias = s.o_bias = get_bool(config, "attention_bias", where).value_or(false);
  s.mlp_bias = get_bool(config, "mlp_bias", where).value_or(false);
  if (s.num_heads % s.num_kv_heads != 0)
    fail_input(where, ": num_attention_heads (", s.num_heads,
               ") is no multiple of num_key_value_heads (", s.num_kv_heads, ")");
  if (s.head_dim % 2 != 0)
    fail_input(where, ": head_dim: ", s.head_dim, " is odd; rotary embedding needs pairs");
  const std::string activation = get_string(config, "hidden_act", where).value_or("silu");
  if (activation != "silu")
    fail_input(where, ": hidden_act: ", printable(activation), " is not supported; silu is wanted");
  return s;
}

}  // namespace ft
