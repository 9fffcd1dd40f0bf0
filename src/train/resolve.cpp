#include "train/resolve.h"

#include <algorithm>

#include "adapters/adapters.h"
#include "base/error.h"
#include "config/fields.h"

namespace ft {
namespace {

constexpr double kFullRate = 1e-5, kAdapterRate = 2e-4;

/// all-linear and the list of all kinds of linear layers say the same; order says nothing.
std::vector<std::string> comparable_targets(const LoraConfig& c) {
  std::vector<std::string> targets = c.target_modules;
  if (!c.target_is_list && targets == std::vector<std::string>{"all-linear"})
    targets = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  std::sort(targets.begin(), targets.end());
  return targets;
}

bool is_same(const std::string& key, RunConfig a, RunConfig b) {
  if (key == "lora.target_modules") return comparable_targets(a.lora) == comparable_targets(b.lora);
  if (key == "lora.modules_to_save") {
    std::sort(a.lora.modules_to_save.begin(), a.lora.modules_to_save.end());
    std::sort(b.lora.modules_to_save.begin(), b.lora.modules_to_save.end());
    return a.lora.modules_to_save == b.lora.modules_to_save;
  }
  return false;
}

RunConfig with_adapter_settings(const RunConfig& config) {
  RunConfig result = config;
  result.lora = read_adapter_config(*config.lora.resume_from);
  result.lora.resume_from = config.lora.resume_from;
  result.lora.init = config.lora.init;
  result.lora.plus_ratio = config.lora.plus_ratio;
  if (result.lora.target_is_list)
    std::sort(result.lora.target_modules.begin(), result.lora.target_modules.end());
  for (const std::string& key : changed_keys(config, result))
    if (config.given_keys.contains(key) && !is_same(key, config, result))
      fail_usage(key, ": differs from the adapter's in ",
                 printable(*config.lora.resume_from + "/adapter_config.json"),
                 "; leave it out, training goes on with the adapter's own");
  return result;
}

}  // namespace

RunConfig resolve(RunConfig config) {
  if (!config.train.learning_rate)
    config.train.learning_rate = config.method == "full" ? kFullRate : kAdapterRate;
  return config.lora.resume_from ? with_adapter_settings(config) : config;
}

}  // namespace ft
