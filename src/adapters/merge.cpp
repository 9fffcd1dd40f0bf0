// merge(): the adapter folded into the base, tensor by tensor in the base's own dtype.
#include "adapters/adapters.h"
#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "finetune/run.h"

namespace ft {

void merge(const RunConfig& config, const std::string& adapter, const std::string& output) {
  if (fs::exists(output) && !fs::is_empty(output))
    fail(Code::kOutput, output, ": exists and is not empty; another --output is wanted");
  const auto model = load_model(config.model, std::nullopt, at::kCPU);
  const AdapterSet adapters = load_adapter(*model, adapter);
  const MergedWeights merged = merge_weights(*model);
  for (const auto& [name, tensor] : merged.tensors)
    if (!tensor.to(at::kFloat).isfinite().all().item().toBool())
      fail_input(
          adapter, ": ", name,
          ": the merged weight is not finite; the adapter is damaged or was trained to divergence");
  StagedFolder staged(output);
  save_model(*model, merged.tensors, {model->decoder.dtype, merged.is_tied, config.save.text_only},
             staged.path());
  staged.commit();
  log_info("merged     ", adapters.params.size(), " adapter tensors into ", output);
  if (!merged.worst_tensor.empty())
    log_info("rounding   at most ", float_text(merged.worst_rounding), ", in ", merged.worst_tensor,
             " (to the base's dtype, once)");
}

}  // namespace ft
