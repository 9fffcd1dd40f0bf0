// The table of model families, and what their configs share.
#include "model/families.h"

#include <cmath>

#include "base/error.h"
#include "base/names.h"

namespace ft {

using FamilyFunction = ModelSpec(const Json& config, const std::string& where);
FamilyFunction make_llama, make_mistral, make_qwen2, make_qwen3, make_gemma, make_gemma2,
    make_gemma3_text, make_gemma3;

namespace {

struct Family {
  std::string_view name, help;
  FamilyFunction* make;
};
constexpr Family kFamilies[] = {
    {"llama", "Llama 2, 3, 3.1, 3.2 and models of the same shape (SmolLM2)", make_llama},
    {"mistral", "Mistral 7B, Nemo", make_mistral},
    {"qwen2", "Qwen 2, 2.5", make_qwen2},
    {"qwen3", "Qwen 3, dense", make_qwen3},
    {"gemma", "Gemma 1", make_gemma},
    {"gemma2", "Gemma 2", make_gemma2},
    {"gemma3_text", "Gemma 3, text only (270M, 1B)", make_gemma3_text},
    {"gemma3", "Gemma 3, image and text (4B, 12B, 27B), of which the language model", make_gemma3},
};

/// What every family needs, so that a broken file cannot cost memory or train to NaN.
void check_spec(const ModelSpec& s, const std::string& where) {
  if (!(s.norm.eps >= 0 && s.norm.eps < 1))
    fail_input(where, ": rms_norm_eps: ", s.norm.eps, ", a number from 0 to 1 is wanted");
  for (const RopeSpec* rope : {&s.rope, s.window_rope ? &*s.window_rope : &s.rope})
    if (!(rope->theta > 0 && std::isfinite(rope->theta)))
      fail_input(where, ": rope_theta: ", rope->theta, ", a positive number is wanted");
}

}  // namespace

int64_t ModelSpec::block_weights() const {
  return hidden_size * (2 * head_dim * (num_heads + num_kv_heads) + 3 * intermediate_size);
}

AttentionSettings ModelSpec::attention(int64_t layer) const {
  const double scalar = query_scalar != 0 ? query_scalar : static_cast<double>(head_dim);
  return {1.0 / std::sqrt(scalar), windows[static_cast<size_t>(layer)], attention_softcap};
}

const Json& text_config(const Json& config) {
  const Json* text = config.get_set("text_config");
  return text ? *text : config;
}

namespace {

/// Whether the weights are in bitsandbytes' four bits. Other quantisations are refused by name.
bool is_stored_in_4bit(const Json& config, const std::string& where) {
  const Json* quantization = config.get_set("quantization_config");
  if (!quantization) return false;
  const std::string method =
      get_string(*quantization, "quant_method", where).value_or("an unnamed method");
  const Json* four_bits = quantization->get("load_in_4bit");
  if (method == "bitsandbytes" && four_bits && four_bits->is_bool() && four_bits->boolean())
    return true;
  fail_input(where, ": quantization_config: checkpoints quantised with ", printable(method),
             method == "bitsandbytes" ? " in 8 bits" : "",
             " are not supported; use the model in 16 bits, or in bitsandbytes' 4 bits");
}

}  // namespace

ModelSpec make_spec(const Json& config, const std::string& where) {
  const auto type = get_string(config, "model_type", where);
  if (!type) fail_input(where, ": model_type: missing; is this a Hugging Face config.json?");
  const Family* family = find(kFamilies, *type);
  if (!family) {
    std::vector<std::string_view> names;
    for (const Family& f : kFamilies) names.push_back(f.name);
    fail_input(where, ": model_type: ", printable(*type),
               " is not supported; supported: ", join(names));
  }
  ModelSpec spec = family->make(config, where);
  spec.family = *type;
  spec.is_4bit = is_stored_in_4bit(config, where);
  check_spec(spec, where);
  return spec;
}

int64_t read_size(const Json& config, const char* key, int64_t fallback, const std::string& where) {
  const int64_t value = get_int(config, key, where).value_or(fallback);
  if (value <= 0 || value > (int64_t{1} << 31))
    fail_input(where, ": ", key, ": ", value, " is no usable size");
  return value;
}

ModelSpec read_common(const Json& config, const ConfigDefaults& defaults,
                      const std::string& where) {
  ModelSpec s;
  s.vocab_size = read_size(config, "vocab_size", defaults.vocab_size, where);
  s.hidden_size = read_size(config, "hidden_size", defaults.hidden_size, where);
  s.intermediate_size = read_size(config, "intermediate_size", defaults.intermediate_size, where);
  s.num_layers = read_size(config, "num_hidden_layers", defaults.num_layers, where);
  s.num_heads = read_size(config, "num_attention_heads", defaults.num_heads, where);
  s.num_kv_heads =
      read_size(config, "num_key_value_heads",
                defaults.num_kv_heads != 0 ? defaults.num_kv_heads : s.num_heads, where);
  s.head_dim =
      read_size(config, "head_dim",
                defaults.head_dim != 0 ? defaults.head_dim : s.hidden_size / s.num_heads, where);
  s.max_positions = read_size(config, "max_position_embeddings", defaults.max_positions, where);
  s.norm.eps = get_double(config, "rms_norm_eps", where).value_or(1e-6);
  s.is_tied = get_bool(config, "tie_word_embeddings", where).value_or(defaults.is_tied);
  constexpr int64_t kMostLayers = 4096;  // the deepest published models have about 130
  if (s.num_layers > kMostLayers)
    fail_input(where, ": num_hidden_layers: ", s.num_layers, ", at most ", kMostLayers,
               " are wanted");
  s.windows.assign(static_cast<size_t>(s.num_layers), 0);
  if (s.num_heads % s.num_kv_heads != 0)
    fail_input(where, ": num_attention_heads (", s.num_heads,
               ") is no multiple of num_key_value_heads (", s.num_kv_heads, ")");
  if (s.head_dim % 2 != 0)
    fail_input(where, ": head_dim: ", s.head_dim, " is odd; rotary embedding needs pairs");
  s.rope = read_rope(config, config.get_set("rope_parameters"), 10000, where);
  return s;
}

void want_activation(const Json& config, const char* key, Activation activation,
                     const std::string& where) {
  const auto name = get_string(config, key, where);
  const bool is_silu = activation == Activation::kSilu;
  if (!name || (is_silu ? *name == "silu" : *name == "gelu_pytorch_tanh" || *name == "gelu"))
    return;
  fail_input(where, ": ", key, ": ", printable(*name), " is not supported; ",
             is_silu ? "silu" : "gelu_pytorch_tanh", " is wanted");
}

void read_attention_bias(const Json& config, ModelSpec& spec, const std::string& where) {
  spec.qkv_bias = spec.o_bias = get_bool(config, "attention_bias", where).value_or(false);
}

void read_windows(const Json& config, std::optional<int64_t> window,
                  bool (*slides)(int64_t layer, int64_t parameter), int64_t parameter,
                  ModelSpec& spec, const std::string& where) {
  const Json* types = config.get_set("layer_types");
  if (types &&
      (!types->is_array() || types->array().size() != static_cast<size_t>(spec.num_layers)))
    fail_input(where, ": layer_types: a list of ", spec.num_layers, " entries is wanted");
  for (size_t i = 0; i < spec.windows.size(); ++i) {
    bool is_sliding = slides(static_cast<int64_t>(i), parameter);
    if (types) {
      const Json& type = types->array()[i];
      is_sliding = type == Json("sliding_attention");
      if (!is_sliding && type != Json("full_attention"))
        fail_input(where, ": layer_types: ", printable(type.dump()),
                   " is not supported; sliding_attention or full_attention is wanted");
    }
    spec.windows[i] = is_sliding ? window.value_or(0) : 0;
  }
}

double read_softcap(const Json& config, const char* key, std::optional<double> fallback,
                    const std::string& where) {
  const Json* value = config.get(key);
  if (value && value->is_null()) return 0;
  const auto cap = value ? get_double(config, key, where) : fallback;
  if (cap && !(*cap > 0 && std::isfinite(*cap)))
    fail_input(where, ": ", key, ": ", *cap, ", a positive number or null is wanted");
  return cap.value_or(0);
}

RopeSpec read_rope(const Json& config, const Json* parameters, double default_theta,
                   const std::string& where) {
  RopeSpec rope;
  const Json* scaling = config.get_set("rope_scaling");
  const Json* source = scaling ? scaling : parameters;
  rope.theta = get_double(config, "rope_theta", where).value_or(default_theta);
  if (parameters)
    rope.theta =
        get_double(*parameters, "rope_theta", where + ": rope_parameters").value_or(rope.theta);
  if (!source) return rope;
  const std::string at = where + (scaling ? ": rope_scaling" : ": rope_parameters");
  if (!source->is_object()) fail_input(at, ": an object is wanted");
  const auto type = get_string(*source, "rope_type", at);
  rope.type = type ? *type : get_string(*source, "type", at).value_or("default");
  if (rope.type == "default") return rope;
  if (rope.type != "linear" && rope.type != "llama3")
    fail_input(at, ": rope_type ", printable(rope.type),
               " is not supported; supported: default, linear, llama3");
  const auto needed = [&](const char* key) {
    const auto value = get_double(*source, key, at);
    if (!value || !(*value > 0)) fail_input(at, ": ", key, ": a positive number is wanted");
    return *value;
  };
  rope.factor = needed("factor");
  if (rope.type == "llama3") {
    rope.low_freq_factor = needed("low_freq_factor");
    rope.high_freq_factor = needed("high_freq_factor");
    rope.original_max_positions = needed("original_max_position_embeddings");
    if (rope.high_freq_factor <= rope.low_freq_factor)
      fail_input(at, ": high_freq_factor must be greater than low_freq_factor");
  }
  return rope;
}

std::vector<float> rope_frequencies(const RopeSpec& rope, int64_t head_dim) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < head_dim; i += 2) {
    // float32 steps as in transformers: base ** (i / d), then one division.
    const float exponent = static_cast<float>(i) / static_cast<float>(head_dim);
    float f = 1.0f / static_cast<float>(std::pow(rope.theta, static_cast<double>(exponent)));
    if (rope.type == "linear") f /= static_cast<float>(rope.factor);
    if (rope.type == "llama3") {
      const double wavelength = 2 * M_PI / f;
      const double low = rope.original_max_positions / rope.low_freq_factor;
      const double high = rope.original_max_positions / rope.high_freq_factor;
      if (wavelength > low) {
        f = static_cast<float>(f / rope.factor);
      } else if (wavelength >= high) {
        const double smooth = (rope.original_max_positions / wavelength - rope.low_freq_factor) /
                              (rope.high_freq_factor - rope.low_freq_factor);
        f = static_cast<float>((1 - smooth) * f / rope.factor + smooth * f);
      }
    }
    frequencies.push_back(f);
  }
  return frequencies;
}

}  // namespace ft
