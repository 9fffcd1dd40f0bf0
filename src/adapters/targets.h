// Which linear layers carry an adapter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "finetune/config.h"
#include "model/load.h"

namespace ft {

/// The layers that config.target_modules names. Error (usage) when an entry matches none.
std::vector<Linear*> target_linears(Model& model, const LoraConfig& config);

/// What adapter_config.json says about targets beyond target_modules.
struct TargetFilter {
  std::vector<std::string> exclude;  ///< exclude_modules: names, or one regular expression
  bool exclude_is_list = true;
  std::optional<std::vector<int64_t>> layers;  ///< layers_to_transform
  std::vector<std::string> layer_lists;  ///< layers_pattern: what the list of blocks is called
};

/// Rewrites target_modules so that it alone says what PEFT makes of it and the rest: entries that
/// this model lacks are dropped, and where the filter or modules_to_save take layers out, the
/// remaining ones are listed by path. Error (usage) when nothing is left, or when the head or the
/// embedding are targets.
LoraConfig resolve_targets(Model& model, LoraConfig config, const TargetFilter& filter);

/// A module that can be trained in full, or a bias, and where the model holds it.
struct ModuleSlot {
  std::string path;
  Param** slot;
};
/// All modules with a weight, in the model's order.
std::vector<ModuleSlot> module_slots(Model& model);

}  // namespace ft
