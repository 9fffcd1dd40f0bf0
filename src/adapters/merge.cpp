// merge(): adapters folded into the base, tensor by tensor in the base's own dtype.
#include <cmath>

#include "adapters/adapters.h"
#include "adapters/targets.h"
#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "finetune/run.h"

namespace ft {
namespace {

/// A merged weight cannot be put back into four bits without losing much of the adapter.
void check_base(const Model& model, bool dequantize, bool text_only) {
  const std::string folder = printable_line(model.folder.string());
  if (!model.quantization) {
    if (dequantize) fail_usage("--dequantize: ", folder, " is not in 4 bits; leave it out");
    return;
  }
  if (!dequantize)
    fail_usage(folder,
               ": is in 4 bits, into which nothing is merged; give --model the same base in 16 "
               "bits, or --dequantize to write what the 4 bits stand for as a 16-bit model");
  if (text_only) return;
  for (const StoredTensor& t : model.vision)
    if (t.name.find(".quant_state.") != std::string::npos)
      fail_usage("--dequantize: ", folder,
                 ": its vision tensors are in 4 bits too; --text-only leaves them out");
}

/// The slots of the model by the name of the tensor that stands in them.
std::map<std::string, Param**> slots_by_name(Model& model) {
  std::map<std::string, Param**> slots;
  for (const ModuleSlot& module : module_slots(model)) slots[module.path + ".weight"] = module.slot;
  for (Linear* linear : model.decoder.linears())
    if (linear->bias) slots[linear->name + ".bias"] = &linear->bias;
  return slots;
}

/// base + sum of weight * change. A module trained in full counts as the change towards it: with
/// weight 1 the result is the trained one exactly. Undefined when no adapter changes the tensor.
Tensor merged_value(const Tensor& base, Param* const* slot,
                    const std::vector<WeightedAdapter>& adapters) {
  Tensor added;
  double share_of_base = 1;
  const auto add = [&](const Tensor& change, double weight) {
    added = added.defined() ? added.add_(change, weight) : change.mul(weight);
  };
  for (const auto& [set, weight] : adapters) {
    for (const auto& layer : set->layers)
      if (&layer.linear->weight == slot) add(layer.adapter->delta(*layer.linear), weight);
    for (const auto& module : set->replaced) {
      if (module.slot != slot) continue;
      add(module.trained->value.detach().to(at::kFloat), weight);
      share_of_base -= weight;
    }
  }
  return added.defined() ? added.add_(base.to(at::kFloat), share_of_base) : Tensor();
}

bool keeps_tied(const AdapterSet& set, const Decoder& d) {
  const Param *embed = nullptr, *head = nullptr;
  for (const auto& module : set.replaced) {
    if (module.slot == &d.embed) embed = module.trained;
    if (module.slot == &d.head) head = module.trained;
  }
  return embed == head;
}

}  // namespace

MergedWeights merge_weights(Model& model, const std::vector<WeightedAdapter>& adapters) {
  at::NoGradGuard guard;
  Decoder& d = model.decoder;
  MergedWeights merged;
  const auto slots = slots_by_name(model);
  const auto add = [&](const std::string& name, const Param& base, Param* const* slot) {
    const auto dtype = base.quantized ? base.stored : base.value.scalar_type();
    const Tensor old =
        base.quantized ? ft::dequantize(*base.quantized, dtype) : base.value.detach();
    const Tensor value = merged_value(old, slot, adapters);
    merged.tensors.emplace_back(name, value.defined() ? value.to(dtype) : old);
    if (!value.defined() || dtype == at::kFloat) return;
    const double distance = value.sub(merged.tensors.back().second).abs().max().item().toDouble();
    if (distance <= merged.worst_rounding) return;
    merged.worst_rounding = distance;
    merged.worst_tensor = name;
  };
  for (const auto& [set, weight] : adapters) merged.is_tied &= keeps_tied(*set, d);
  merged.is_tied &= d.spec.is_tied;
  for (const Param& p : model.params.all()) {
    if (p.name.starts_with("base_model.")) continue;  // an adapter's own
    const auto slot = slots.find(p.name);
    add(p.name, p, slot == slots.end() ? nullptr : slot->second);
  }
  if (!merged.is_tied && d.spec.is_tied)
    add("lm_head.weight", model.params.at(d.spec.trunk() + "embed_tokens.weight"), &d.head);
  return merged;
}

void merge(const RunConfig& config, const std::vector<std::string>& folders,
           const std::vector<double>& weights, const std::string& output, bool dequantize) {
  if (!weights.empty() && weights.size() != folders.size())
    fail_usage("--weights: ", weights.size(), " for ", folders.size(),
               " adapters, one for each --adapter is wanted");
  for (const double w : weights)
    if (!std::isfinite(w)) fail_usage("--weights: ", w, ": a finite number is wanted");
  if (is_there(output) && !fs::is_empty(output))
    fail(Code::kOutput, output, ": exists and is not empty; another --output is wanted");
  const auto model = load_model(config.model, std::nullopt, at::kCPU);
  check_base(*model, dequantize, config.save.text_only);
  std::deque<ParamStore> stores(folders.size());
  std::deque<AdapterSet> sets;
  std::vector<WeightedAdapter> adapters;
  for (size_t i = 0; i < folders.size(); ++i) {
    sets.push_back(load_adapter(*model, folders[i], &stores[i]));
    take_off(sets.back());
    adapters.push_back({&sets.back(), weights.empty() ? 1.0 : weights[i]});
  }
  const MergedWeights merged = merge_weights(*model, adapters);
  for (const auto& [name, tensor] : merged.tensors)
    if (!tensor.to(at::kFloat).isfinite().all().item().toBool())
      fail_input(folders[0], folders.size() > 1 ? " and the others: " : ": ", name,
                 ": the merged weight is not finite; the adapter is damaged or was trained to "
                 "divergence");
  StagedFolder staged(output);
  save_model(*model, merged.tensors, {model->decoder.dtype, merged.is_tied, config.save.text_only},
             staged.path());
  staged.commit();
  size_t count = 0;
  for (const AdapterSet& set : sets) count += set.params.size();
  log_info("merged     ", count, " adapter tensors into ", output);
  if (model->quantization)
    log_info("base       dequantised: the ", model->quantization->type, " weights of ",
             config.model, ", written in 16 bits; not the model they were made from");
  if (!merged.worst_tensor.empty())
    log_info("rounding   at most ", float_text(merged.worst_rounding), ", in ", merged.worst_tensor,
             " (to the base's dtype, once)");
}

}  // namespace ft
