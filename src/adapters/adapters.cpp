// Matching follows PEFT: targets as in targets.cpp; rank and alpha patterns match `(.*\.)?(key)`,
// the first in the order of their names, which is the order in PEFT's file; modules_to_save matches
// by plain suffix.
#include "adapters/adapters.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "adapters/targets.h"
#include "base/error.h"
#include "base/regex.h"
#include "base/seed.h"

namespace ft {
namespace {

const std::string kPrefix = "base_model.model.";

template <typename Value>
Value pattern_value(const std::map<std::string, Value>& patterns, const std::string& module,
                    Value otherwise, const char* key) {
  for (const auto& [pattern, value] : patterns)
    if (Regex("(.*\\.)?(" + pattern + ")", key).matches_whole(module)) return value;
  return otherwise;
}

Param& add_trained(Model& model, AdapterSet& set, const std::string& name, Tensor value) {
  Param& param = model.params.add(name, value.to(model.device));
  param.train();
  set.params.push_back(&param);
  return param;
}

void attach_lora(Model& model, AdapterSet& set, uint64_t seed_value) {
  const LoraConfig& config = set.config;
  std::set<std::string> kinds;
  uint64_t layer = 0;
  for (Linear* linear : target_linears(model, config)) {
    const int64_t out = linear->out(), in = linear->in_features();
    const int64_t rank =
        pattern_value<int64_t>(config.rank_pattern, linear->name, config.r, "lora.rank_pattern");
    const double alpha = pattern_value<double>(config.alpha_pattern, linear->name, config.alpha,
                                               "lora.alpha_pattern");
    const auto divisor = static_cast<double>(rank);
    const double scale = alpha / (config.use_rslora ? std::sqrt(divisor) : divisor);
    const std::string base = kPrefix + linear->name;
    const Tensor start =  // an outline of a model has no values
        model.device.is_meta()
            ? ops::empty({rank, in}, at::kFloat, at::kMeta)
            : init_lora_a(config.init, rank, in, seed(seed_value, layer, Stream::kInit));
    Param& a = add_trained(model, set, base + ".lora_A.weight", start);
    Param& b = add_trained(model, set, base + ".lora_B.weight",
                           ops::zeros({out, rank}, at::kFloat, model.device));
    linear->adapter = std::make_shared<LoraAdapter>(a, b, scale, set.dropout, ++layer);
    kinds.insert(linear->name.substr(linear->name.rfind('.') + 1));
  }
  if (!config.target_is_list) {
    // Written to adapter_config.json as PEFT writes all-linear: the kinds of layers. A regular
    // expression stays one.
    if (config.target_modules[0] == "all-linear") {
      set.config.target_modules.assign(kinds.begin(), kinds.end());
      set.config.target_is_list = true;
    }
  }
}

/// bias: lora_only trains the biases of adapted layers, all those of every layer.
void train_biases(Model& model, AdapterSet& set) {
  if (set.config.bias == "none") return;
  for (Linear* linear : model.decoder.linears()) {
    if (!linear->bias || (set.config.bias == "lora_only" && !linear->adapter)) continue;
    const std::string name =
        kPrefix + linear->name + (linear->adapter ? ".base_layer.bias" : ".bias");
    linear->bias =
        &add_trained(model, set, name, linear->bias->value.detach().to(at::kFloat).clone());
  }
}

struct SavedModule {
  std::string path;
  Param** slot;
};

std::vector<SavedModule> saveable_modules(Model& model) {
  Decoder& d = model.decoder;
  const std::string trunk = d.spec.trunk();
  std::vector<SavedModule> all = {{trunk + "embed_tokens", &d.embed}};
  for (size_t i = 0; i < d.blocks.size(); ++i) {
    Block& b = d.blocks[i];
    const std::string layer = trunk + "layers." + std::to_string(i) + ".";
    for (const auto& [name, slot] : {std::pair("input_layernorm", &b.input_norm),
                                     {"self_attn.q_norm", &b.q_norm},
                                     {"self_attn.k_norm", &b.k_norm},
                                     {"post_attention_layernorm", &b.post_attention_norm},
                                     {"pre_feedforward_layernorm", &b.pre_feedforward_norm},
                                     {"post_feedforward_layernorm", &b.post_feedforward_norm}})
      if (*slot) all.push_back({layer + name, slot});
  }
  for (Linear* linear : d.linears()) all.push_back({linear->name, &linear->weight});
  all.push_back({trunk + "norm", &d.norm});
  all.push_back({"lm_head", &d.head});
  return all;
}

void train_linear_bias(Model& model, AdapterSet& set, const std::string& path) {
  for (Linear* linear : model.decoder.linears()) {
    if (linear->name != path) continue;
    if (linear->adapter)
      fail_usage("lora.modules_to_save: ", path,
                 ": already carries an adapter; leave it out of one of the two");
    if (linear->bias)
      linear->bias = &add_trained(model, set, kPrefix + path + ".bias",
                                  linear->bias->value.detach().to(at::kFloat).clone());
  }
}

void train_saved_modules(Model& model, AdapterSet& set) {
  const std::vector<SavedModule> modules = saveable_modules(model);
  const bool stays_tied = set.config.ensure_weight_tying && model.decoder.spec.is_tied;
  for (const std::string& entry : set.config.modules_to_save) {
    bool found = false;
    for (const SavedModule& module : modules) {
      if (!module.path.ends_with(entry)) continue;
      found = true;
      if (std::ranges::find(set.saved_modules, module.path) != set.saved_modules.end()) continue;
      set.saved_modules.push_back(module.path);
      if ((*module.slot)->quantized)
        fail_usage("lora.modules_to_save: ", module.path,
                   ": is in 4 bits, which cannot be trained; leave it out, or use a base in 16 "
                   "bits with method lora");
      train_linear_bias(model, set, module.path);
      // On a tied model embedding and head become two tensors that are trained apart, as in PEFT,
      // unless they shall stay one.
      Decoder& d = model.decoder;
      const bool is_end = module.slot == &d.embed || module.slot == &d.head;
      Param* const other = module.slot == &d.embed ? d.head : d.embed;
      if (stays_tied && is_end && other->name.starts_with(kPrefix)) {
        set.tied_copies.emplace_back(kPrefix + module.path + ".weight", other);
        continue;
      }
      *module.slot = &add_trained(model, set, kPrefix + module.path + ".weight",
                                  (*module.slot)->value.detach().to(at::kFloat).clone());
      if (stays_tied && is_end) d.embed = d.head = *module.slot;
    }
    if (!found)
      fail_usage("lora.modules_to_save: ", printable(entry),
                 ": no such module; try lm_head, embed_tokens or norm");
  }
  // PEFT wants both ends in the file, also where only one was asked for.
  Decoder& d = model.decoder;
  if (!stays_tied || d.head != d.embed || !d.head->name.starts_with(kPrefix) ||
      !set.tied_copies.empty())
    return;
  const std::string embed = d.spec.trunk() + "embed_tokens";
  const bool has_embed = std::ranges::find(set.saved_modules, embed) != set.saved_modules.end();
  set.tied_copies.emplace_back(kPrefix + (has_embed ? "lm_head" : embed) + ".weight", d.head);
}

AdapterSet attach(Model& model, const LoraConfig& config, uint64_t seed_value) {
  AdapterSet set;
  set.config = config;
  set.dropout = std::make_shared<DropoutState>();
  set.dropout->probability = config.dropout;
  attach_lora(model, set, seed_value);
  train_biases(model, set);
  train_saved_modules(model, set);
  return set;
}

}  // namespace

AdapterSet attach_adapter(Model& model, const LoraConfig& config, uint64_t seed_value) {
  return attach(model, config, seed_value);
}

MergedWeights merge_weights(Model& model) {
  at::NoGradGuard guard;
  Decoder& d = model.decoder;
  std::map<std::string, const Param*> replaced;
  for (const SavedModule& module : saveable_modules(model))
    replaced[module.path + ".weight"] = *module.slot;
  std::map<std::string, Linear*> linears;
  for (Linear* linear : d.linears()) {
    linears[linear->name + ".weight"] = linear;
    if (linear->bias) replaced[linear->name + ".bias"] = linear->bias;
  }
  MergedWeights merged;
  const auto add = [&](const std::string& name, const Tensor& value, at::ScalarType dtype) {
    const Tensor rounded = value.to(dtype);
    merged.tensors.emplace_back(name, rounded);
    if (value.scalar_type() == dtype) return;
    const double distance = value.sub(rounded).abs().max().item().toDouble();
    if (distance <= merged.worst_rounding) return;
    merged.worst_rounding = distance;
    merged.worst_tensor = name;
  };
  for (const Param& p : model.params.all()) {
    if (p.name.starts_with(kPrefix)) continue;
    Tensor value = p.value;
    const auto linear = linears.find(p.name);
    if (linear != linears.end() && linear->second->adapter) {
      value = linear->second->adapter->merged_weight(*linear->second);
    } else if (p.quantized) {
      value = dequantize(*p.quantized, p.stored);
    } else if (const auto found = replaced.find(p.name); found != replaced.end()) {
      value = found->second->value;
    }
    add(p.name, value, p.quantized ? p.stored : p.value.scalar_type());
  }
  merged.is_tied = d.head == d.embed;
  if (!merged.is_tied && d.spec.is_tied)
    add("lm_head.weight", d.head->value,
        model.params.at(d.spec.trunk() + "embed_tokens.weight").value.scalar_type());
  return merged;
}

}  // namespace ft
