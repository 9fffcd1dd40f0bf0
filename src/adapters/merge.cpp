// merge(): the adapter folded into the base, tensor by tensor in the base's own dtype.
#include "adapters/adapters.h"
#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "finetune/run.h"

namespace ft {

namespace {

/// A merged weight cannot be put back into four bits without losing much of the adapter.
void check_base(const Model& model, bool dequantize, bool text_only) {
  const std::string folder = model.folder.string();
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

}  // namespace

void merge(const RunConfig& config, const std::string& adapter, const std::string& output,
           bool dequantize) {
  if (fs::exists(output) && !fs::is_empty(output))
    fail(Code::kOutput, output, ": exists and is not empty; another --output is wanted");
  const auto model = load_model(config.model, std::nullopt, at::kCPU);
  check_base(*model, dequantize, config.save.text_only);
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
  if (model->quantization)
    log_info("base       dequantised: the ", model->quantization->type, " weights of ",
             config.model, ", written in 16 bits; not the model they were made from");
  if (!merged.worst_tensor.empty())
    log_info("rounding   at most ", float_text(merged.worst_rounding), ", in ", merged.worst_tensor,
             " (to the base's dtype, once)");
}

}  // namespace ft
