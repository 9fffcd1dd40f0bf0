// The table of model families, and what their configs share.
#include <cmath>

#include "base/error.h"
#include "base/names.h"
#include "model/spec.h"

namespace ft {

using FamilyFunction = ModelSpec(const Json& config, const std::string& where);
FamilyFunction make_llama;

namespace {

struct Family {
  std::string_view name, help;
  FamilyFunction* make;
};
constexpr Family kFamilies[] = {
    {"llama", "Llama 2, 3, 3.1, 3.2 and models of the same shape (SmolLM2)", make_llama},
};

/// What every family needs, so that a broken file cannot cost memory or train to NaN.
void check_spec(const ModelSpec& s, const std::string& where) {
  constexpr int64_t kMostLayers = 4096;  // the deepest published models have about 130
  if (s.num_layers > kMostLayers)
    fail_input(where, ": num_hidden_layers: ", s.num_layers, ", at most ", kMostLayers,
               " are wanted");
  if (!(s.norm_eps >= 0 && s.norm_eps < 1))
    fail_input(where, ": rms_norm_eps: ", s.norm_eps, ", a number from 0 to 1 is wanted");
  if (!(s.rope.theta > 0 && std::isfinite(s.rope.theta)))
    fail_input(where, ": rope_theta: ", s.rope.theta, ", a positive number is wanted");
}

}  // namespace

double ModelSpec::attention_scale() const {
  return 1.0 / std::sqrt(static_cast<double>(head_dim));
}

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
  if (const Json* quantization = config.get_set("quantization_config")) {
    const auto method = get_string(*quantization, "quant_method", where);
    fail_input(where, ": quantization_config: checkpoints quantised with ",
               printable(method.value_or("an unnamed method")),
               " are not supported; use the unquantised model");
  }
  ModelSpec spec = family->make(config, where);
  spec.family = *type;
  check_spec(spec, where);
  return spec;
}

RopeSpec read_rope(const Json& config, double default_theta, const std::string& where) {
  RopeSpec rope;
  const Json* parameters = config.get_set("rope_parameters");
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
