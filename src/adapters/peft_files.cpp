// The PEFT adapter folder: adapter_config.json and adapter_model.safetensors, as peft 0.21 writes
// and reads them.
#include <algorithm>
#include <cmath>
#include <set>

#include "adapters/adapters.h"
#include "adapters/targets.h"
#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "base/safetensors.h"

namespace ft {
namespace {

constexpr int64_t kMostRank = 65536;  // as in the configuration

/// Fields that are read here, or that say nothing about the stored tensors.
constexpr std::string_view kKnownFields[] = {"alpha_pattern",
                                             "auto_mapping",
                                             "base_model_name_or_path",
                                             "bias",
                                             "ensure_weight_tying",
                                             "exclude_modules",
                                             "inference_mode",
                                             "init_lora_weights",
                                             "layers_pattern",
                                             "layers_to_transform",
                                             "loftq_config",
                                             "lora_alpha",
                                             "lora_dropout",
                                             "megatron_core",
                                             "modules_to_save",
                                             "peft_type",
                                             "peft_version",
                                             "qalora_group_size",
                                             "r",
                                             "rank_pattern",
                                             "revision",
                                             "target_modules",
                                             "task_type",
                                             "use_dora",
                                             "use_rslora"};

/// Values that switch nothing on.
bool is_neutral(const Json& value) {
  return value.is_null() || (value.is_bool() && !value.boolean()) ||
         (value.is_object() && value.object().empty()) ||
         (value.is_array() && value.array().empty());
}

/// Any other field that switches something on changes the result in a way that is not built, be it
/// one of PEFT's today or of a later one. A bare number or text is more likely a parameter of what
/// is off.
void refuse_unsupported(const Json& json, const std::string& where) {
  for (const auto& [key, value] : json.object()) {
    if (std::ranges::find(kKnownFields, key) != std::end(kKnownFields) || is_neutral(value))
      continue;
    if (value.is_number() || value.is_string()) {
      log_warning(where, ": ", printable(key), ": ", printable(value.dump()),
                  " is not known and left out of account");
    } else {
      fail_input(where, ": ", printable(key), ": ", printable(value.dump()), " is not supported");
    }
  }
}

/// PiSSA, OLoRA, CorDA, LoftQ and their like take the start of the adapter out of the base weights;
/// the file then fits only that changed base. Starts that leave the base alone say nothing about
/// the stored tensors.
void refuse_changed_base(const Json& json, const std::string& where) {
  const Json* init = json.get_set("init_lora_weights");
  if (!init || init->is_bool()) return;
  for (const char* harmless : {"gaussian", "eva", "orthogonal"})
    if (*init == Json(harmless)) return;
  fail_input(where, ": init_lora_weights: ", printable(init->dump()),
             " changes the base weights; an adapter converted to plain LoRA is wanted (PEFT: "
             "save_pretrained with path_initial_model_for_weight_conversion)");
}

template <typename Value>
std::map<std::string, Value> read_pattern(const Json& json, const char* key,
                                          const std::string& where) {
  std::map<std::string, Value> result;
  const Json* pattern = json.get_set(key);
  if (!pattern) return result;
  if (!pattern->is_object()) fail_input(where, ": ", key, ": an object is wanted");
  for (const auto& [name, value] : pattern->object()) {
    const bool is_rank = std::is_integral_v<Value>;
    if (!value.is_number() || !(value.number() > 0) || (is_rank && !value.is_int()) ||
        (is_rank && value.integer() > kMostRank))
      fail_input(where, ": ", key, ": ", printable(name), ": a positive ", is_rank ? "whole " : "",
                 "number is wanted");
    result[name] = static_cast<Value>(value.number());
  }
  return result;
}

std::vector<std::string> read_names(const Json& json, const char* key, const std::string& where) {
  std::vector<std::string> names;
  const Json* list = json.get_set(key);
  if (!list) return names;
  if (!list->is_array()) fail_input(where, ": ", key, ": a list of names is wanted");
  for (const Json& name : list->array()) {
    if (!name.is_string()) fail_input(where, ": ", key, ": a list of names is wanted");
    names.push_back(name.string());
  }
  return names;
}

/// exclude_modules, layers_to_transform and layers_pattern; each may be one value or a list.
TargetFilter read_filter(const Json& json, const std::string& where) {
  TargetFilter filter;
  const auto names_at = [&](const char* key) {
    const Json* value = json.get_set(key);
    if (value && value->is_string())
      return value->string().empty() ? std::vector<std::string>{}
                                     : std::vector<std::string>{value->string()};
    return read_names(json, key, where);
  };
  filter.exclude = names_at("exclude_modules");
  const Json* exclude = json.get_set("exclude_modules");
  filter.exclude_is_list = !exclude || !exclude->is_string();
  filter.layer_lists = names_at("layers_pattern");
  if (const Json* layers = json.get_set("layers_to_transform")) {
    const Json::Array list = layers->is_array() ? layers->array() : Json::Array{*layers};
    std::vector<int64_t> numbers;
    for (const Json& layer : list) {
      if (!layer.is_int()) fail_input(where, ": layers_to_transform: layer numbers are wanted");
      numbers.push_back(layer.integer());
    }
    if (!numbers.empty()) filter.layers = std::move(numbers);  // PEFT: an empty list is no limit
  }
  return filter;
}

Json names_json(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  Json::Array list;
  for (auto& name : names) list.emplace_back(std::move(name));
  return list;
}

/// On an image and text model a list of names would match layers of the vision tower too: it is
/// written as this regular expression, and read as the list again.
constexpr std::string_view kTextLayers = R"(.*language_model\.(?:.*\.)?(?:)";

std::string text_layers_regex(const std::vector<std::string>& names) {
  std::string text(kTextLayers);
  for (const std::string& name : names) {
    if (text.size() > kTextLayers.size()) text += '|';
    for (const char c : name) text += c == '.' ? std::string("\\.") : std::string(1, c);
  }
  return text + ")";
}

/// The names in what text_layers_regex() wrote; empty for any other expression.
std::vector<std::string> text_layers_names(const std::string& regex) {
  std::vector<std::string> names;
  if (!regex.starts_with(kTextLayers) || !regex.ends_with(")")) return names;
  std::string name;
  for (size_t i = kTextLayers.size(); i < regex.size(); ++i) {
    if (regex[i] == '|' || i + 1 == regex.size()) {
      names.push_back(std::move(name));
      name.clear();
    } else if (regex[i] != '\\') {
      name += regex[i];
    }
  }
  return names;
}

Json targets_json(const LoraConfig& c, const ModelSpec& spec) {
  if (!c.target_is_list) return c.target_modules[0];
  std::vector<std::string> names = c.target_modules;
  std::sort(names.begin(), names.end());
  return spec.has_vision ? Json(text_layers_regex(names)) : names_json(names);
}

Json init_json(const std::string& init) {
  return init == "default" ? Json(true) : Json(init);
}

template <typename Value>
Json pattern_json(const std::map<std::string, Value>& pattern) {
  Json object = Json::Object{};
  for (const auto& [name, value] : pattern) object.set(name, Json(value));
  return object;
}

}  // namespace

LoraConfig read_adapter_config(const fs::path& folder) {
  const fs::path file = folder / "adapter_config.json";
  if (!fs::exists(file))
    fail_input(folder.string(),
               ": adapter_config.json is missing; a PEFT adapter folder is wanted");
  const std::string where = file.string();
  const Json json = read_json(file);
  const auto type = get_string(json, "peft_type", where);
  if (!type || *type != "LORA")
    fail_input(where, ": peft_type: ", type ? printable(*type) : "missing",
               "; only LORA is supported");
  refuse_unsupported(json, where);
  refuse_changed_base(json, where);
  LoraConfig c;
  c.r = get_int(json, "r", where).value_or(8);
  c.alpha = get_double(json, "lora_alpha", where).value_or(8);
  c.dropout = get_double(json, "lora_dropout", where).value_or(0);
  c.use_dora = get_bool(json, "use_dora", where).value_or(false);
  c.use_rslora = get_bool(json, "use_rslora", where).value_or(false);
  c.bias = get_string(json, "bias", where).value_or("none");
  if (c.r < 1 || c.r > kMostRank)
    fail_input(where, ": r: ", c.r, ", a rank from 1 to ", kMostRank, " is wanted");
  if (!(c.alpha > 0) || !(c.dropout >= 0 && c.dropout < 1))
    fail_input(where, ": lora_alpha must be positive, lora_dropout within [0, 1)");
  if (c.bias != "none" && c.bias != "all" && c.bias != "lora_only")
    fail_input(where, ": bias: ", printable(c.bias), "; none, all or lora_only is wanted");
  const Json* targets = json.get_set("target_modules");
  if (targets && targets->is_string()) {
    c.target_modules = text_layers_names(targets->string());
    c.target_is_list = !c.target_modules.empty();
    if (!c.target_is_list) c.target_modules = {targets->string()};
  } else {
    c.target_is_list = true;
    c.target_modules = targets ? read_names(json, "target_modules", where)
                               : std::vector<std::string>{"q_proj", "v_proj"};
  }
  if (c.target_modules.empty()) fail_input(where, ": target_modules: empty");
  c.rank_pattern = read_pattern<int64_t>(json, "rank_pattern", where);
  c.alpha_pattern = read_pattern<double>(json, "alpha_pattern", where);
  c.modules_to_save = read_names(json, "modules_to_save", where);
  c.ensure_weight_tying = get_bool(json, "ensure_weight_tying", where).value_or(false);
  return c;
}

namespace {

/// Names as this program has them: adapters of image and text models come with three module paths.
std::map<std::string, StoredTensor> read_adapter_tensors(const fs::path& file,
                                                         const ModelSpec& spec) {
  constexpr std::string_view kPrefix = "base_model.model.";
  std::map<std::string, StoredTensor> stored;
  for (const StoredTensor& t : read_safetensors(file)) {
    std::string name = t.name;
    if (name.starts_with(kPrefix))
      name = std::string(kPrefix) + our_name(name.substr(kPrefix.size()), spec);
    if (!stored.emplace(name, t).second)
      fail_input(file.string(), ": ", printable(t.name), ": there twice, by two module paths");
  }
  return stored;
}

/// A trained embedding and head of a tied model that are one tensor are stored under both names, or
/// by PEFT under one; `name` is that of the other.
std::string tied_name(const std::string& name, const ModelSpec& spec) {
  const std::string head = "base_model.model.lm_head.weight",
                    embed = "base_model.model." + spec.trunk() + "embed_tokens.weight";
  return name == head ? embed : name == embed ? head : "";
}

/// Whether the file's embedding and head are one tensor; PEFT trains two in spite of
/// ensure_weight_tying where it does not see that they are tied.
bool are_tied(const std::map<std::string, StoredTensor>& stored, const ModelSpec& spec) {
  const auto head = stored.find("base_model.model.lm_head.weight");
  if (head == stored.end()) return true;
  const auto embed = stored.find(tied_name(head->first, spec));
  return embed == stored.end() || std::ranges::equal(head->second.bytes, embed->second.bytes);
}

}  // namespace

AdapterSet attach_as_stored(Model& model, const LoraConfig& config, const fs::path& folder,
                            ParamStore* store) {
  const std::string where = (folder / "adapter_config.json").string();
  const TargetFilter filter = read_filter(read_json(where), where);
  try {
    return attach_adapter(model, resolve_targets(model, config, filter), 0, store);
  } catch (const Error& e) {  // what is a wrong setting in a configuration is an adapter that does
                              // not fit here
    fail_input(where, ": does not fit ", model.folder.string(), ": ", e.what());
  }
}

AdapterSet load_adapter(Model& model, const fs::path& folder, ParamStore* store) {
  LoraConfig config = read_adapter_config(folder);
  const fs::path file = folder / "adapter_model.safetensors";
  if (!fs::exists(file)) {
    if (fs::exists(folder / "adapter_model.bin"))
      fail_input((folder / "adapter_model.bin").string(),
                 ": pickled adapters are not read; save it as safetensors");
    fail_input(folder.string(), ": adapter_model.safetensors is missing");
  }
  const ModelSpec& spec = model.decoder.spec;
  std::map<std::string, StoredTensor> stored = read_adapter_tensors(file, spec);
  config.ensure_weight_tying = config.ensure_weight_tying && are_tied(stored, spec);
  AdapterSet set = attach_as_stored(model, config, folder, store);
  at::NoGradGuard guard;
  for (Param* param : set.params) {
    const bool is_tied_copy = config.ensure_weight_tying && spec.is_tied;
    auto found = stored.find(param->name);
    if (found == stored.end() && is_tied_copy) found = stored.find(tied_name(param->name, spec));
    if (found == stored.end())
      fail_input(file.string(), ": ", param->name, ": missing; the adapter does not fit ",
                 model.folder.string());
    if (at::IntArrayRef(found->second.shape) != param->value.sizes())
      fail_input(file.string(), ": ", param->name, ": shape ", shape_text(found->second.shape),
                 ", the model wants ", shape_text(param->value.sizes()));
    param->value.copy_(to_tensor(found->second));
    stored.erase(found);
    if (is_tied_copy) stored.erase(tied_name(param->name, spec));
  }
  if (!stored.empty())
    fail_input(file.string(), ": ", printable(stored.begin()->first), ": not used by ",
               model.folder.string(), " (", stored.size(),
               " such tensors); the adapter was made for another model");
  return set;
}

namespace {

/// A trained tensor as the file has it. W - s B0 A0 + s B A = W + s [B, -B0] [A; A0].
Tensor written_value(const AdapterSet& adapters, const Param& p) {
  const Tensor value = p.value.detach().to(at::kCPU, at::kFloat);
  const auto start = adapters.starts.find(&p);
  if (start == adapters.starts.end()) return value;
  const bool is_a = p.name.ends_with(".lora_A.weight");
  return is_a ? ops::cat({value, start->second}, 0) : ops::cat({value, start->second.neg()}, 1);
}

/// Twice the rank at the same scale where the start is written too.
LoraConfig written_config(const AdapterSet& adapters) {
  LoraConfig c = adapters.config;
  if (adapters.starts.empty()) return c;
  const double factor = c.use_rslora ? std::sqrt(2.0) : 2.0;
  c.r *= 2;
  c.alpha *= factor;
  for (auto& [name, rank] : c.rank_pattern) rank *= 2;
  for (auto& [name, alpha] : c.alpha_pattern) alpha *= factor;
  c.init = "default";
  return c;
}

}  // namespace

void save_adapter(const Model& model, const AdapterSet& adapters, const fs::path& folder) {
  const LoraConfig c = written_config(adapters);
  NamedTensors tensors;
  for (const Param* p : adapters.params) tensors.emplace_back(p->name, written_value(adapters, *p));
  for (const auto& [path, param] : adapters.tied_copies)
    tensors.emplace_back(path, param->value.detach().to(at::kFloat));
  save_tensors(folder / "adapter_model.safetensors", tensors);
  Json json = Json::Object{
      {"alpha_pattern", pattern_json(c.alpha_pattern)},
      {"auto_mapping", nullptr},
      {"base_model_name_or_path", model.folder.string()},
      {"bias", c.bias},
      {"ensure_weight_tying", c.ensure_weight_tying},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"init_lora_weights", init_json(c.init)},
      {"layer_replication", nullptr},
      {"layers_pattern", nullptr},
      {"layers_to_transform", nullptr},
      {"loftq_config", Json::Object{}},
      {"lora_alpha",
       c.alpha == std::floor(c.alpha) ? Json(static_cast<int64_t>(c.alpha)) : Json(c.alpha)},
      {"lora_dropout", c.dropout},
      {"megatron_config", nullptr},
      {"megatron_core", "megatron.core"},
      {"modules_to_save", c.modules_to_save.empty() ? Json() : names_json(c.modules_to_save)},
      {"peft_type", "LORA"},
      {"r", c.r},
      {"rank_pattern", pattern_json(c.rank_pattern)},
      {"revision", nullptr},
      {"target_modules", targets_json(c, model.decoder.spec)},
      {"task_type", "CAUSAL_LM"},
      {"use_dora", c.use_dora},
      {"use_rslora", c.use_rslora},
  };
  write_file(folder / "adapter_config.json", json.dump_indented() + "\n");
}

}  // namespace ft
