// Matching follows PEFT: targets as in targets.cpp; rank and alpha patterns match `(.*\.)?(key)`,
// the first in the order of their names, which is the order in PEFT's file; modules_to_save matches
// by plain suffix.
#include "adapters/adapters.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "adapters/dora.h"
#include "adapters/start.h"
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

Param& add_trained(Model& model, ParamStore& store, AdapterSet& set, const std::string& name,
                   Tensor value) {
  Param& param = store.add(name, value.to(model.device));
  param.train();
  set.params.push_back(&param);
  return param;
}

/// A float32 copy of what stands in `slot` is trained in its place.
Param& train_copy(Model& model, ParamStore& store, AdapterSet& set, const std::string& name,
                  Param** slot) {
  Param& copy =
      add_trained(model, store, set, name, (*slot)->value.detach().to(at::kFloat).clone());
  set.replaced.push_back({slot, *slot, &copy});
  return *(*slot = &copy);
}

/// PiSSA, OLoRA: what the adapter starts with is taken out of the base, in float32 with one
/// rounding.
void take_out(Linear& linear, const AdapterStart& start, double scale) {
  Param& w = *linear.weight;
  const Tensor rest = w.value.detach().to(at::kCPU, at::kFloat).addmm(start.b, start.a, 1, -scale);
  w.replace(rest.to(w.value.device(), w.value.scalar_type()));
}

void attach_layer(Model& model, ParamStore& store, AdapterSet& set, Linear& linear,
                  uint64_t seed_value) {
  const LoraConfig& config = set.config;
  const uint64_t layer = set.layers.size();
  const int64_t rank =
      pattern_value<int64_t>(config.rank_pattern, linear.name, config.r, "lora.rank_pattern");
  const double alpha =
      pattern_value<double>(config.alpha_pattern, linear.name, config.alpha, "lora.alpha_pattern");
  const auto divisor = static_cast<double>(rank);
  const double scale = alpha / (config.use_rslora ? std::sqrt(divisor) : divisor);
  const AdapterStart start =
      adapter_start(config.init, linear, rank, scale, seed(seed_value, layer, Stream::kInit));
  const std::string base = kPrefix + linear.name;
  Param& a = add_trained(model, store, set, base + ".lora_A.weight", start.a.clone());
  Param& b = add_trained(model, store, set, base + ".lora_B.weight", start.b.clone());
  if (start.changes_base) {
    take_out(linear, start, scale);
    set.starts[&a] = start.a;
    set.starts[&b] = start.b;
  }
  const LoraAdapter lora(a, b, scale, set.state, layer + 1);
  if (config.use_dora) {
    Param& magnitude = add_trained(model, store, set, base + ".lora_magnitude_vector",
                                   initial_magnitude(linear, lora));
    linear.adapter = std::make_shared<DoraAdapter>(lora, magnitude, linear);
  } else {
    linear.adapter = std::make_shared<LoraAdapter>(lora);
  }
  set.layers.push_back({&linear, linear.adapter});
}

void attach_layers(Model& model, ParamStore& store, AdapterSet& set, uint64_t seed_value) {
  std::set<std::string> kinds;
  for (Linear* linear : target_linears(model, set.config)) {
    attach_layer(model, store, set, *linear, seed_value);
    kinds.insert(linear->name.substr(linear->name.rfind('.') + 1));
  }
  // Written to adapter_config.json as PEFT writes all-linear: the kinds of layers. A regular
  // expression stays one.
  if (!set.config.target_is_list && set.config.target_modules[0] == "all-linear") {
    set.config.target_modules.assign(kinds.begin(), kinds.end());
    set.config.target_is_list = true;
  }
}

/// bias: lora_only trains the biases of adapted layers, all those of every layer.
void train_biases(Model& model, ParamStore& store, AdapterSet& set) {
  if (set.config.bias == "none") return;
  for (Linear* linear : model.decoder.linears()) {
    if (!linear->bias || (set.config.bias == "lora_only" && !linear->adapter)) continue;
    const std::string name =
        kPrefix + linear->name + (linear->adapter ? ".base_layer.bias" : ".bias");
    train_copy(model, store, set, name, &linear->bias);
  }
}

void train_linear_bias(Model& model, ParamStore& store, AdapterSet& set, const std::string& path) {
  for (Linear* linear : model.decoder.linears()) {
    if (linear->name != path) continue;
    if (linear->adapter)
      fail_usage("lora.modules_to_save: ", path,
                 ": already carries an adapter; leave it out of one of the two");
    if (linear->bias) train_copy(model, store, set, kPrefix + path + ".bias", &linear->bias);
  }
}

void train_saved_modules(Model& model, ParamStore& store, AdapterSet& set) {
  const std::vector<ModuleSlot> modules = module_slots(model);
  const bool stays_tied = set.config.ensure_weight_tying && model.decoder.spec.is_tied;
  for (const std::string& entry : set.config.modules_to_save) {
    bool found = false;
    for (const ModuleSlot& module : modules) {
      if (!module.path.ends_with(entry)) continue;
      found = true;
      if (std::ranges::find(set.saved_modules, module.path) != set.saved_modules.end()) continue;
      set.saved_modules.push_back(module.path);
      if ((*module.slot)->quantized)
        fail_usage("lora.modules_to_save: ", module.path,
                   ": is in 4 bits, which cannot be trained; leave it out, or use a base in 16 "
                   "bits with method lora");
      train_linear_bias(model, store, set, module.path);
      // On a tied model embedding and head become two tensors that are trained apart, as in PEFT,
      // unless they shall stay one.
      Decoder& d = model.decoder;
      const bool is_end = module.slot == &d.embed || module.slot == &d.head;
      Param* const other = module.slot == &d.embed ? d.head : d.embed;
      if (stays_tied && is_end && other->name.starts_with(kPrefix)) {
        set.tied_copies.emplace_back(kPrefix + module.path + ".weight", other);
        continue;
      }
      Param& copy = train_copy(model, store, set, kPrefix + module.path + ".weight", module.slot);
      if (stays_tied && is_end) {
        Param** const other_slot = module.slot == &d.embed ? &d.head : &d.embed;
        set.replaced.push_back({other_slot, *other_slot, &copy});
        *other_slot = &copy;
      }
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

}  // namespace

AdapterSet attach_adapter(Model& model, const LoraConfig& config, uint64_t seed_value,
                          ParamStore* store) {
  AdapterSet set;
  set.config = config;
  set.state = std::make_shared<AdapterState>();
  set.state->dropout = config.dropout;
  ParamStore& target = store ? *store : model.params;
  attach_layers(model, target, set, seed_value);
  train_biases(model, target, set);
  train_saved_modules(model, target, set);
  return set;
}

void take_off(const AdapterSet& adapters) {
  for (const auto& layer : adapters.layers) layer.linear->adapter = nullptr;
  for (const auto& module : adapters.replaced) *module.slot = module.original;
}

void put_on(const AdapterSet& adapters) {
  for (const auto& layer : adapters.layers) layer.linear->adapter = layer.adapter;
  for (const auto& module : adapters.replaced) *module.slot = module.trained;
}

}  // namespace ft
