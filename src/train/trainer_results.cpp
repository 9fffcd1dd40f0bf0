// What a run leaves at its end: final/ (and best/ on the way), samples.jsonl, the last line of
// metrics.
#include <cstdio>

#include "base/files.h"
#include "base/log.h"
#include "infer/generate.h"
#include "kernels/device.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace ft {

void Trainer::write_final(const fs::path& folder) const {
  StagedFolder staged(folder);
  const Model& model = *session_.model;
  if (session_.adapters) {
    save_adapter(model, *session_.adapters, staged.path());
    copy_tokenizer_files(model.folder, staged.path());
  } else {
    NamedTensors tensors;
    for (const Param& p : model.params.all()) tensors.emplace_back(p.name, p.value);
    save_model(model, tensors,
               {model.decoder.dtype, model.decoder.spec.is_tied, config_.save.text_only},
               staged.path());
  }
  staged.commit();
}

void Trainer::write_samples() {
  if (config_.eval.samples == 0 || eval_documents_.empty() || !session_.tokenizer) return;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<const Document*> used;
  for (const Document& d : eval_documents_) {
    if (static_cast<int64_t>(prompts.size()) == config_.eval.samples) break;
    if (d.prompt.empty()) continue;
    prompts.push_back(d.prompt_messages.is_null()
                          ? session_.tokenizer->encode_ids(
                                d.prompt, {.add_special_tokens = true, .parse_special = false})
                          : encode_messages(session_, d.prompt_messages, {}));
    used.push_back(&d);
  }
  if (prompts.empty()) return;
  SamplingOptions sampling;
  sampling.max_new_tokens = config_.eval.sample_max_new_tokens;
  const auto generated = generate_batch(session_, prompts, sampling, end_tokens(session_), {},
                                        [] { return StopSignals::received() != 0; });
  if (StopSignals::received()) return;
  std::string lines;
  for (size_t i = 0; i < generated.size(); ++i) {
    const Json prompt =
        used[i]->prompt_messages.is_null() ? Json(used[i]->prompt) : used[i]->prompt_messages;
    lines += Json(Json::Object{{"prompt", prompt},
                               {"reference", used[i]->reference},
                               {"generated", generated[i].text}})
                 .dump() +
             "\n";
  }
  replace_file(output_ / "samples.jsonl", lines);
}

int Trainer::finish() {
  save_now();
  write_final(output_ / "final");
  write_samples();
  if (StopSignals::received()) return end_by_signal();
  metrics_->write(Json::Object{
      {"type", "summary"},
      {"steps", state_.step},
      {"tokens", state_.tokens},
      {"seconds", state_.seconds},
      {"tokens_per_second",
       state_.seconds > 0 ? static_cast<double>(state_.tokens) / state_.seconds : 0},
      {"peak_memory_bytes", peak_memory(session_.model->device)},
      {"best_eval_loss", state_.best_eval_loss ? Json(*state_.best_eval_loss) : Json()},
      {"final_eval_loss", state_.last_eval_loss ? Json(*state_.last_eval_loss) : Json()}});
  const int64_t measured = peak_memory(session_.model->device);
  char difference[32];
  std::snprintf(
      difference, sizeof difference, "%+.1f %%",
      100.0 * static_cast<double>(planned_bytes_ - measured) / static_cast<double>(measured));
  log_info("memory     planned ", gib_text(planned_bytes_), ", measured ", gib_text(measured), " (",
           difference, ")");
  log_info("done       ", state_.step, " steps in ", duration_text(state_.seconds), "; result in ",
           (output_ / "final").string());
  return 0;
}

}  // namespace ft
