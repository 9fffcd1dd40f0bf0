// inspect_adapter(): what a PEFT folder holds. Without a model it reads the folder alone; with one
// it also says how far the adapter moves each weight, which for DoRA depends on the base.
#include <cmath>
#include <cstdio>
#include <map>

#include "adapters/adapters.h"
#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/names.h"
#include "finetune/run.h"

namespace ft {
namespace {

struct LayerSummary {
  std::string name;
  int64_t rank = 0, parameters = 0;
  double norm_a = 0, norm_b = 0;
  std::optional<double> norm_change, norm_base;
};

struct Summary {
  std::vector<LayerSummary> layers;
  int64_t parameters = 0;
  NamedTensors others;  ///< trained in full
};

double norm(const Tensor& x) {
  return std::sqrt(x.to(at::kDouble).square().sum().item().toDouble());
}

/// PEFT's module path of an adapter tensor, and the tensor's own suffix; empty for others.
std::pair<std::string, std::string> split_name(const std::string& name) {
  constexpr std::string_view kPrefix = "base_model.model.";
  for (const char* suffix : {".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"})
    if (name.starts_with(kPrefix) && name.ends_with(suffix)) {
      const size_t end = name.size() - std::string_view(suffix).size();
      return {name.substr(kPrefix.size(), end - kPrefix.size()), suffix};
    }
  return {};
}

Summary summarize(const NamedTensors& tensors) {
  Summary summary;
  std::map<std::string, size_t> places;
  for (const auto& [name, tensor] : tensors) {
    summary.parameters += tensor.numel();
    const auto [module, suffix] = split_name(name);
    if (module.empty()) {
      summary.others.emplace_back(name, tensor);
      continue;
    }
    const auto [place, is_new] = places.emplace(module, summary.layers.size());
    if (is_new) summary.layers.push_back({module, 0, 0, 0, 0, {}, {}});
    LayerSummary& layer = summary.layers[place->second];
    layer.parameters += tensor.numel();
    if (suffix == ".lora_A.weight") layer.rank = tensor.size(0), layer.norm_a = norm(tensor);
    if (suffix == ".lora_B.weight") layer.norm_b = norm(tensor);
  }
  return summary;
}

Summary summarize_on_model(const RunConfig& config, const std::string& folder) {
  at::NoGradGuard guard;
  const auto model = load_model(config.model, std::nullopt, at::kCPU);
  const AdapterSet set = load_adapter(*model, folder);
  NamedTensors tensors;
  for (const Param* p : set.params) tensors.emplace_back(p->name, p->value.detach());
  Summary summary = summarize(tensors);
  std::map<std::string, const AdapterSet::Layer*> layers;
  for (const auto& layer : set.layers) layers[layer.linear->name] = &layer;
  for (LayerSummary& row : summary.layers) {
    const auto& [linear, adapter] = *layers.at(row.name);
    row.norm_change = norm(adapter->delta(*linear));
    row.norm_base = norm(linear->operand(at::kFloat).in(at::kFloat).detach());
  }
  return summary;
}

Json to_json(const Summary& summary, const LoraConfig& c, const std::string& folder) {
  Json::Array layers, targets, others;
  for (const std::string& target : c.target_modules) targets.emplace_back(target);
  for (const auto& [name, tensor] : summary.others) others.emplace_back(name);
  for (const LayerSummary& l : summary.layers) {
    Json row = Json::Object{{"name", l.name},
                            {"rank", l.rank},
                            {"parameters", l.parameters},
                            {"norm_a", l.norm_a},
                            {"norm_b", l.norm_b}};
    if (l.norm_change) {
      row.set("norm_change", *l.norm_change);
      row.set("norm_base", *l.norm_base);
    }
    layers.push_back(std::move(row));
  }
  return with_finite_numbers(Json::Object{{"adapter", folder},
                                          {"type", c.use_dora ? "dora" : "lora"},
                                          {"rank", c.r},
                                          {"alpha", c.alpha},
                                          {"use_rslora", c.use_rslora},
                                          {"targets", std::move(targets)},
                                          {"parameters", summary.parameters},
                                          {"other_tensors", std::move(others)},
                                          {"layers", std::move(layers)}});
}

std::string to_text(const Summary& summary, const LoraConfig& c, const std::string& folder) {
  std::string text = str(
      "adapter     ", folder, "\nmethod      ", c.use_dora ? "DoRA" : "LoRA", ", rank ", c.r,
      ", alpha ", c.alpha, c.use_rslora ? " (rsLoRA: over the root of the rank)" : "",
      c.rank_pattern.empty() && c.alpha_pattern.empty() ? "" : ", with patterns", "\ntargets    ");
  for (const std::string& target : c.target_modules) text += str(" ", printable(target));
  text += str("\nparameters  ", summary.parameters, " in ", summary.layers.size(), " layers");
  if (!summary.others.empty()) text += str(" and ", summary.others.size(), " other tensors");
  text += "\n\n";
  const bool has_change = !summary.layers.empty() && summary.layers[0].norm_change;
  char line[256];
  std::snprintf(line, sizeof line, "%6s %10s %10s %10s%s  layer\n", "rank", "parameters", "|A|",
                "|B|", has_change ? "   |change|  of |W|" : "");
  text += line;
  for (const LayerSummary& l : summary.layers) {
    std::snprintf(line, sizeof line, "%6ld %10ld %10.4g %10.4g", l.rank, l.parameters, l.norm_a,
                  l.norm_b);
    text += line;
    if (l.norm_change) {
      std::snprintf(line, sizeof line, " %10.4g %6.2f %%", *l.norm_change,
                    100 * *l.norm_change / *l.norm_base);
      text += line;
    }
    text += str("  ", printable(l.name), "\n");
  }
  for (const auto& [name, tensor] : summary.others)
    text += str("in full: ", printable(name), " ", shape_text(tensor.sizes()), "\n");
  return text;
}

}  // namespace

std::string inspect_adapter(const RunConfig& config, const std::string& adapter, bool json) {
  const LoraConfig c = read_adapter_config(adapter);
  Summary summary;
  if (config.model.empty()) {
    const fs::path file = fs::path(adapter) / "adapter_model.safetensors";
    if (!fs::exists(file)) fail_input(adapter, ": adapter_model.safetensors is missing");
    NamedTensors tensors;
    for (const StoredTensor& t : read_safetensors(file)) tensors.emplace_back(t.name, to_tensor(t));
    summary = summarize(tensors);
  } else {
    summary = summarize_on_model(config, adapter);
  }
  return json ? to_json(summary, c, adapter).dump() + "\n" : to_text(summary, c, adapter);
}

}  // namespace ft
