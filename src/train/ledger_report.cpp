// ledger(): one step of the run that a configuration describes, run on meta tensors as on a GPU,
// and what its launches come to at given ceilings. A launch takes the longer of its arithmetic and
// its bytes; launches follow each other without a gap. The model's own FLOPs, against which the
// rate is held, are those of its products and of causal attention within documents, with nothing
// computed twice: forward, the inputs' gradients, and the weights' where these are trained
// (adapters are not counted).
#include <algorithm>

#include "base/error.h"
#include "finetune/run.h"
#include "kernels/autograd.h"
#include "kernels/ledger.h"
#include "kernels/quantized.h"
#include "objectives/sft.h"
#include "train/memory_plan.h"
#include "train/optimizer.h"
#include "train/resolve.h"
#include "train/step.h"

namespace ft {
namespace {

/// A batch of `tokens` in documents of `document`, all of whose tokens but the first are targets.
Batch full_rows(int64_t tokens, int64_t document) {
  Batch batch;
  for (int64_t begin = 0; begin < tokens; begin += document) {
    Example example;
    example.ids.assign(static_cast<size_t>(std::min(document, tokens - begin)), 0);
    example.labels = example.ids;
    batch.add(example);
  }
  return batch;
}

/// The blocks' weights as they are in four bits, without numbers.
void pack_outline(Model& model, const QuantizationConfig& config) {
  for (Linear* linear : model.decoder.linears()) {
    auto q = std::make_shared<QuantizedWeight>();
    q->type = config.type;
    q->block_size = config.block_size;
    q->out = linear->weight->value.size(0);
    q->in = linear->weight->value.size(1);
    const int64_t blocks = (q->out * q->in + q->block_size - 1) / q->block_size;
    q->codes = ops::empty({(q->out * q->in + 1) / 2}, at::kByte, at::kMeta);
    q->absmax = ops::empty({blocks}, config.double_quant ? at::kByte : at::kFloat, at::kMeta);
    linear->weight->quantized = q;
    linear->weight->value = Tensor();
  }
}

/// What the launches of one step of a model with its first `layers` blocks are.
std::vector<Launches> launches_of(const RunConfig& config, Recompute recompute, const Batch& batch,
                                  int64_t layers) {
  const auto model = outline_of_run(config);
  if (config.method == "qlora") pack_outline(*model, config.quantization);
  if (config.method != "full") model->decoder.add_borders(config.lora.base_dtype == "float8");
  model->decoder.spec.num_layers = layers;
  model->decoder.recompute = recompute;
  Optimizer optimizer(model->params.trainable(), config.train, 0);
  Ledger ledger;
  ledger.begin("forward");
  const Tensor loss = sft_loss(*model, batch);
  ledger.begin("backward");
  run_backward(loss);
  ledger.begin("update");
  optimizer.collect();
  const Tensor norm = optimizer.gradient_norm();
  optimizer.update(1e-4, clip_scale(loss, norm, config.train.max_grad_norm), 1);
  return ledger.entries();
}

struct Ceilings {
  LedgerOptions options;
  double seconds(const Launches& l) const {
    const double rate = l.kind == LaunchKind::kProduct            ? options.tflops
                        : l.kind == LaunchKind::kFloat8Product    ? options.float8_tflops
                        : l.kind == LaunchKind::kAttentionForward ? options.attention_forward_tflops
                        : l.kind == LaunchKind::kAttentionBackward
                            ? options.attention_backward_tflops
                            : 0;
    const double arithmetic = rate > 0 ? l.flops / (rate * 1e12) : 0;
    return std::max(arithmetic, l.bytes / options.bandwidth);
  }
};

double model_flops(const ModelSpec& s, const RunConfig& config, const std::vector<Launches>& all,
                   const Batch& batch) {
  const auto blocks = static_cast<double>(s.num_layers * s.block_weights()),
             head = static_cast<double>(s.hidden_size * s.vocab_size);
  const double passes = config.method == "full" ? 3 : 2;
  double attention = 0;
  for (const Launches& l : all)
    if (l.kind == LaunchKind::kAttentionForward && l.phase == "forward") attention += l.flops;
  return 2 * passes *
             (blocks * static_cast<double>(batch.num_tokens()) +
              head * static_cast<double>(batch.num_targets())) +
         3 * attention;
}

int64_t count_of(const std::vector<Launches>& all, const std::string& phase) {
  int64_t count = 0;
  for (const Launches& l : all)
    if (l.phase == phase) count += l.count;
  return count;
}

}  // namespace

std::string ledger(const LedgerOptions& options) {
  const RunConfig config = resolve(options.config);
  const ModelSpec spec = load_spec(config.model);
  const int64_t tokens = config.train.batch_size * config.data.max_length;
  const int64_t document = options.document.value_or(config.data.max_length);
  const Batch batch = full_rows(tokens, document);
  const Recompute recompute = asked_recompute(config.train).value_or(Recompute::kNothing);
  const auto all = launches_of(config, recompute, batch, spec.num_layers);
  const auto fewer = launches_of(config, recompute, batch, spec.num_layers - 1);
  const Ceilings ceilings{options};
  double seconds = 0, bytes = 0, flops = 0;
  for (const Launches& l : all) {
    seconds += ceilings.seconds(l);
    bytes += l.bytes;
    flops += l.flops;
  }
  const double wanted = model_flops(spec, config, all, batch);
  const double mfu = wanted / seconds / (options.peak_tflops * 1e12);
  const int64_t forward = count_of(all, "forward") - count_of(fewer, "forward"),
                backward = count_of(all, "backward") - count_of(fewer, "backward");
  if (options.json) {
    Json::Array rows;
    for (const Launches& l : all)
      rows.push_back(Json::Object{{"phase", l.phase},
                                  {"kernel", l.name},
                                  {"shape", l.shape},
                                  {"launches", l.count},
                                  {"flops", l.flops},
                                  {"bytes", l.bytes},
                                  {"seconds", ceilings.seconds(l)}});
    return Json(Json::Object{{"tokens", tokens},
                             {"document", document},
                             {"launches_per_layer_forward", forward},
                             {"launches_per_layer_backward", backward},
                             {"flops", flops},
                             {"bytes", bytes},
                             {"model_flops", wanted},
                             {"seconds", seconds},
                             {"tokens_per_second", static_cast<double>(tokens) / seconds},
                             {"mfu", mfu},
                             {"kernels", std::move(rows)}})
               .dump() +
           "\n";
  }
  std::string text =
      str("model      ", config.model, " (", spec.family, "), ", config.method, ", ", tokens,
          " tokens in documents of ", document, "; ", recompute_name(recompute).text, "\n\n");
  char line[200];
  std::snprintf(line, sizeof line, "%-9s %-26s %-20s %9s %10s %9s %9s %7s\n", "phase", "kernel",
                "shape", "launches", "TFLOP", "GB", "ms", "share");
  text += line;
  for (const Launches& l : all) {
    const double t = ceilings.seconds(l);
    std::snprintf(line, sizeof line, "%-9s %-26s %-20s %9ld %10.2f %9.2f %9.3f %6.1f%%\n",
                  l.phase.c_str(), l.name.c_str(), l.shape.c_str(), l.count, l.flops / 1e12,
                  l.bytes / 1e9, t * 1e3, 100 * t / seconds);
    text += line;
  }
  std::snprintf(line, sizeof line,
                "\nstep       %.1f ms, %.0f tokens/s; %.1f TFLOP, of which the model's %.1f; %.1f "
                "GB\n",
                seconds * 1e3, static_cast<double>(tokens) / seconds, flops / 1e12, wanted / 1e12,
                bytes / 1e9);
  text += line;
  std::snprintf(line, sizeof line, "launches   per layer %ld forward, %ld backward\n", forward,
                backward);
  text += line;
  std::snprintf(line, sizeof line,
                "MFU        %.1f %% of %.0f TFLOP/s (ceilings: products %.0f, attention %.0f and "
                "%.0f TFLOP/s, memory %.2f TB/s)\n",
                100 * mfu, options.peak_tflops, options.tflops, options.attention_forward_tflops,
                options.attention_backward_tflops, options.bandwidth / 1e12);
  return text + line;
}

}  // namespace ft
