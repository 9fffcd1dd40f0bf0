// Matching follows PEFT: a list entry matches a module whose path is it or ends with "." + it; a
// string is a regular expression over the whole path. A training run of ours is held to what it
// names (an entry without a match is a mistake); a stored adapter is read as PEFT reads it, where
// lists made for several architectures name modules that a model does not have.
#include "adapters/targets.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/names.h"
#include "base/regex.h"

namespace ft {
namespace {

/// Matches a module path against a list of names or one regular expression.
class Matcher {
 public:
  Matcher(const std::vector<std::string>& entries, bool is_list, const char* key)
      : entries_(entries), is_list_(is_list) {
    is_everything_ = !is_list && entries.size() == 1 && entries[0] == "all-linear";
    if (!is_list && !is_everything_ && !entries.empty()) regex_.emplace(entries[0], key);
  }

  /// Remembers which entries of a list were met.
  bool matches(const std::string& path) {
    if (is_everything_) return true;
    if (!is_list_) return regex_ && regex_->matches_whole(path);
    bool found = false;
    for (const std::string& entry : entries_)
      if (path == entry || path.ends_with("." + entry)) found = true, met_.insert(entry);
    return found;
  }
  bool was_met(const std::string& entry) const { return met_.contains(entry); }

 private:
  const std::vector<std::string>& entries_;
  bool is_list_, is_everything_;
  std::optional<Regex> regex_;
  std::set<std::string> met_;
};

[[noreturn]] void no_match(const std::vector<std::string>& targets, const Linear& example) {
  fail_usage("lora.target_modules: ", targets.empty() ? "none" : printable(targets[0]),
             ": matches no layer; layers are named like ", example.name);
}

/// layers_to_transform: the number in `model.layers.7.mlp.up_proj`, under a list of that name.
bool in_layers(const std::string& path, const TargetFilter& filter) {
  size_t begin = 0;
  for (size_t end; (end = path.find('.', begin)) != std::string::npos; begin = end + 1) {
    const std::string part = path.substr(begin, end - begin);
    if (begin == 0 || part.empty() || part.find_first_not_of("0123456789") != std::string::npos)
      continue;
    const std::string before = path.substr(0, begin - 1);
    bool named = filter.layer_lists.empty();
    for (const std::string& name : filter.layer_lists)
      named |= Regex("(.*\\.)?(" + name + ")", "layers_pattern").matches_whole(before);
    if (!named) continue;
    return std::ranges::find(*filter.layers, std::stoll(part)) != filter.layers->end();
  }
  return false;
}

}  // namespace

std::vector<Linear*> target_linears(Model& model, const LoraConfig& config) {
  const std::vector<Linear*> all = model.decoder.linears();
  Matcher matcher(config.target_modules, config.target_is_list, "lora.target_modules");
  std::vector<Linear*> chosen;
  std::set<std::string> kinds;
  for (Linear* linear : all) {
    kinds.insert(linear->name.substr(linear->name.rfind('.') + 1));
    if (matcher.matches(linear->name)) chosen.push_back(linear);
  }
  const std::vector<std::string_view> names(kinds.begin(), kinds.end());
  if (config.target_is_list)
    for (const std::string& entry : config.target_modules)
      if (!matcher.was_met(entry))
        fail_usage("lora.target_modules: ", printable(entry),
                   ": no such linear layer in the decoder", did_you_mean(entry, names),
                   "; there are ", join(names),
                   " (lm_head and embed_tokens are trained through lora.modules_to_save)");
  if (chosen.empty()) no_match(config.target_modules, *all[0]);
  return chosen;
}

LoraConfig resolve_targets(Model& model, LoraConfig config, const TargetFilter& filter) {
  Matcher targets(config.target_modules, config.target_is_list, "target_modules");
  Matcher excluded(filter.exclude, filter.exclude_is_list, "exclude_modules");
  std::vector<Regex> saved;  // PEFT never adapts what modules_to_save trains in full
  for (const std::string& entry : config.modules_to_save)
    saved.emplace_back("(^|.*\\.)(" + entry + ")($|\\..*)", "modules_to_save");
  const auto is_saved = [&](const std::string& path) {
    return std::ranges::any_of(saved, [&](const Regex& r) { return r.matches_whole(path); });
  };
  std::vector<std::string> kept;
  size_t matched = 0;
  for (const Linear* linear : model.decoder.linears()) {
    if (!targets.matches(linear->name)) continue;
    ++matched;
    const bool is_chosen_layer =
        !filter.layers || !config.target_is_list || in_layers(linear->name, filter);
    if (!excluded.matches(linear->name) && !is_saved(linear->name) && is_chosen_layer)
      kept.push_back(linear->name);
  }
  for (const std::string& module :
       {std::string("lm_head"), model.decoder.spec.trunk() + "embed_tokens"})
    if (config.target_is_list && targets.matches(module) && !excluded.matches(module) &&
        !is_saved(module) && !filter.layers)
      fail_usage("target_modules: ", module,
                 ": adapters on the output head or the embedding are not supported");
  if (kept.empty()) no_match(config.target_modules, *model.decoder.linears()[0]);
  if (kept.size() < matched) {
    config.target_modules = std::move(kept);
    config.target_is_list = true;
  } else if (config.target_is_list) {
    std::vector<std::string> met;
    for (const std::string& entry : config.target_modules)
      if (targets.was_met(entry) && entry != "lm_head" && entry != "embed_tokens")
        met.push_back(entry);
    config.target_modules = std::move(met);
  }
  return config;
}

std::vector<ModuleSlot> module_slots(Model& model) {
  Decoder& d = model.decoder;
  const std::string trunk = d.spec.trunk();
  std::vector<ModuleSlot> all = {{trunk + "embed_tokens", &d.embed}};
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

}  // namespace ft
