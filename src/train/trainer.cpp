// train(): from a configuration to final/. The step itself is in step.cpp, stopping and resuming in
// recovery.cpp.
#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "base/seed.h"
#include "finetune/run.h"
#include "infer/generate.h"
#include "kernels/device.h"
#include "train/evaluate.h"
#include "train/fingerprint.h"
#include "train/memory_plan.h"
#include "train/output_folder.h"
#include "train/report.h"
#include "train/resolve.h"
#include "train/schedule.h"
#include "train/signals.h"

namespace ft {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The examples of documents, which keep the rest of what they are.
std::vector<Example> take_examples(std::vector<Document>& documents) {
  std::vector<Example> examples;
  for (Document& d : documents) examples.push_back(std::move(d.example));
  return examples;
}

}  // namespace

Trainer::Trainer(RunConfig config, bool resume)
    : config_(std::move(config)),
      resume_(resume),
      output_(config_.output_dir),
      peak_rate_(config_.train.learning_rate.value()) {}

void Trainer::prepare_data() {
  const SplitRows rows = read_split(config_.data, config_.seed);
  DataContext context = session_.data_context(config_.data);
  context.keep_texts = false;
  Dataset train_set = make_dataset(rows.train, context);
  context.keep_texts = true;
  counts_ = train_set.counts;
  format_ = train_set.format;
  train_ = take_examples(train_set.documents);
  if (!rows.eval.empty()) {
    Dataset eval_set = make_dataset(rows.eval, context);
    if (config_.eval.max_examples &&
        eval_set.documents.size() > static_cast<size_t>(*config_.eval.max_examples))
      eval_set.documents.resize(static_cast<size_t>(*config_.eval.max_examples));
    eval_documents_ = std::move(eval_set.documents);
    eval_ = take_examples(eval_documents_);
  }
  loader_.emplace(train_, config_);
  num_steps_ = loader_->num_steps();
}

void Trainer::plan_run() {
  const Model& model = *session_.model;
  int64_t program = 0;
  if (model.device.is_cpu()) {
    program = resident_memory();
    const auto drop = [&](const Tensor& t) {
      if (t.defined()) program -= static_cast<int64_t>(t.nbytes());
    };
    for (const Param& p : model.params.all()) {
      if (!p.is_mapped) drop(p.value);  // those in the file are not touched yet
      if (!p.quantized) continue;
      for (const Tensor* t :
           {&p.quantized->codes, &p.quantized->absmax, &p.quantized->nested_absmax})
        drop(*t);
    }
  }
  const auto outline = outline_of_run(config_);
  planned_bytes_ =
      plan_memory(config_, *outline, largest_batch(*loader_), model.device.is_cuda(), program)
          .peak();
}

void Trainer::prepare_model() {
  Model& model = *session_.model;
  model.decoder.recompute_blocks = config_.train.gradient_checkpointing;
  model.decoder.noise_alpha = config_.train.neftune_alpha;
  if (config_.method == "full") {
    if (model.quantization)
      fail_usage("method: full: ", model.folder.string(),
                 " is stored in 4 bits, which cannot be trained; lora or qlora is wanted, or the "
                 "base in 16 bits");
    for (Param& p : model.params.all()) p.train();
  } else if (config_.lora.resume_from) {
    session_.adapters = load_adapter(model, *config_.lora.resume_from);
  } else {
    session_.adapters = attach_adapter(model, config_.lora, static_cast<uint64_t>(config_.seed));
  }
  if (session_.adapters && config_.lora.plus_ratio)
    for (Param* p : session_.adapters->params)
      if (p->name.ends_with(".lora_B.weight")) p->rate_factor = *config_.lora.plus_ratio;
}

void Trainer::report_start() const {
  const Model& model = *session_.model;
  const int64_t trained = model.params.num_elements(true), all = model.params.num_elements(false);
  log_info("model      ", config_.model, " (", model.decoder.spec.family, ", ",
           dtype_text(model.decoder.dtype), model.quantization ? ", weights in " : "",
           model.quantization ? model.quantization->type : "", ", ", device_text(model.device),
           ")");
  char share[32];
  std::snprintf(share, sizeof share, "%.4f",
                100.0 * static_cast<double>(trained) / static_cast<double>(all));
  log_info("trainable  ", trained, " of ", all, " parameters (", share, " %)");
  if (session_.adapters && model.decoder.spec.is_tied &&
      (model.decoder.head->is_trainable() || model.decoder.embed->is_trainable()))
    log_info("tied       embedding and output head are ",
             model.decoder.head == model.decoder.embed
                 ? "one tensor and stay so (lora.ensure_weight_tying)"
                 : "tensors of their own from here on, as in PEFT (lora.ensure_weight_tying: true "
                   "keeps them one)");
  log_info("data       ", counts_.examples, " ", format_, " examples, ", counts_.tokens,
           " tokens, ", counts_.targets, " trained on (data.train_on: ", config_.data.train_on,
           "); eval: ", eval_.size(), " examples");
  if (counts_.truncated + counts_.dropped + counts_.split + counts_.no_targets > 0)
    log_warning(counts_.truncated, " examples truncated, ", counts_.dropped, " dropped and ",
                counts_.split, " split at data.max_length ", config_.data.max_length, " (",
                counts_.tokens_lost, " tokens lost); ", counts_.no_targets,
                " left out for having no trained token");
  char filled[32];
  std::snprintf(filled, sizeof filled, "%.1f", 100 * loader_->occupancy());
  log_info("rows       ", loader_->num_rows(), " of at most ", config_.data.max_length, " tokens, ",
           filled, " % filled; ", num_steps_, " steps, learning rate ", peak_rate_);
}

int Trainer::run() {
  const auto start = Clock::now();
  session_ = open_session(config_, std::nullopt);
  prepare_data();
  plan_run();
  prepare_model();
  make_folders(output_);
  const FolderLock lock(output_);
  remove_leftovers(output_);
  optimizer_.emplace(session_.model->params.trainable(), config_.train,
                     static_cast<uint64_t>(config_.seed), output_);
  checkpoints_.emplace(output_, config_.save, session_.model->params.trainable(), *optimizer_);
  planned_bytes_ += session_.model->device.is_cpu() ? checkpoints_->copy_bytes() : 0;
  state_.threads = num_threads();
  state_.device = session_.model->device.str();
  state_.inputs = fingerprints(config_);
  if (resume_)
    continue_from_checkpoint();
  else
    clear_results(output_);
  report_start();
  check_space();
  replace_file(output_ / "config.yaml", to_yaml(config_));
  if (state_.step == 0) remove_report(output_);
  metrics_.emplace(output_ / "metrics.jsonl", state_.step, config_.log.tensorboard);
  log_info("ready      after ", duration_text(seconds_since(start)));
  const StopSignals signals;
  return with_report(output_, [this] { return loop(); });
}

bool Trainer::is_evaluation_step(int64_t done) const {
  if (done == num_steps_) return true;
  if (config_.eval.every_steps) return done % *config_.eval.every_steps == 0;
  const int64_t parts = config_.eval.evaluations + 1;
  // Evaluation i of E falls on step round(i * steps / (E + 1)); two on the same step are one.
  for (int64_t i = 1; i < parts; ++i)
    if ((2 * i * num_steps_ + parts) / (2 * parts) == done) return done > 0;
  return false;
}

int Trainer::loop() {
  const auto start = Clock::now();
  const double seconds_before = state_.seconds;
  if ((state_.step == 0 || state_.owes_evaluation) && !eval_.empty()) evaluate_now();
  bool stopped_early = has_stopped_improving();
  if (StopSignals::received()) return end_by_signal();
  while (state_.step < num_steps_ && !stopped_early) {
    const auto step_start = Clock::now();
    const double rate = learning_rate_at(config_.train, peak_rate_, state_.step, num_steps_);
    const StepResult result = take_step(rate);
    ++state_.step;
    state_.tokens += result.tokens;
    record(result, rate, seconds_since(step_start));
    state_.seconds = seconds_before + seconds_since(start);
    const bool is_due = is_evaluation_step(state_.step);
    if (is_due && !eval_.empty()) stopped_early = evaluate_now();
    const bool saves =
        config_.save.every_steps ? state_.step % *config_.save.every_steps == 0 : is_due;
    if (saves || StopSignals::take_save_request()) save_now(/*goes_on=*/true);
    checkpoints_->check();
    if (StopSignals::received()) return end_by_signal();
  }
  progress_.pause();
  if (stopped_early)
    log_info("stopped early: no better evaluation in ", *config_.eval.early_stopping_patience,
             " tries");
  finish();
  return 0;
}

void Trainer::record(const StepResult& r, double learning_rate, double seconds) {
  const double epoch =
      static_cast<double>(state_.step) / static_cast<double>(loader_->steps_per_epoch());
  const double rate = static_cast<double>(r.tokens) / seconds;
  const int64_t memory = peak_memory(session_.model->device);
  metrics_->write(Json::Object{{"type", "train"},
                               {"step", state_.step},
                               {"epoch", epoch},
                               {"loss", r.loss},
                               {"grad_norm", r.grad_norm},
                               {"learning_rate", learning_rate},
                               {"tokens", state_.tokens},
                               {"target_tokens", r.targets},
                               {"tokens_per_second", rate},
                               {"step_seconds", seconds},
                               {"memory_bytes", memory}});
  run_seconds_ += seconds;
  if (state_.step % config_.log.every_steps != 0 && state_.step != num_steps_) return;
  const double left = run_seconds_ / static_cast<double>(state_.step - resumed_step_) *
                      static_cast<double>(num_steps_ - state_.step);
  progress_.show({state_.step, num_steps_, r.loss, learning_rate, rate, memory, left});
}

bool Trainer::evaluate_now() {
  const auto start = Clock::now();
  const Losses losses = evaluate_examples(*session_.model, eval_, config_.data.max_length, {},
                                          [] { return StopSignals::received() != 0; });
  state_.owes_evaluation = !losses.is_complete;
  if (state_.owes_evaluation) return false;
  const double loss = losses.mean();
  state_.last_eval_loss = loss;
  const double epoch =
      static_cast<double>(state_.step) / static_cast<double>(loader_->steps_per_epoch());
  metrics_->write(Json::Object{{"type", "eval"},
                               {"step", state_.step},
                               {"epoch", epoch},
                               {"loss", loss},
                               {"perplexity", std::exp(loss)},
                               {"target_tokens", losses.targets},
                               {"seconds", seconds_since(start)}});
  const bool better =
      std::isfinite(loss) && (!state_.best_eval_loss || loss < *state_.best_eval_loss);
  progress_.pause();
  log_info("eval       step ", state_.step, ": loss ", loss, ", perplexity ", std::exp(loss),
           better && state_.step > 0 ? " (best)" : "");
  if (state_.step == 0) return false;  // the untrained model is no candidate
  if (better) {
    state_.best_eval_loss = loss;
    state_.evaluations_without_gain = 0;
    if (config_.save.keep_best) write_final(output_ / "best");
  } else {
    ++state_.evaluations_without_gain;
  }
  return has_stopped_improving();
}

bool Trainer::has_stopped_improving() const {
  return config_.eval.early_stopping_patience &&
         state_.evaluations_without_gain >= *config_.eval.early_stopping_patience;
}

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
  const auto generated = generate_batch(session_, prompts, sampling, end_tokens(session_));
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

void Trainer::finish() {
  save_now();
  write_final(output_ / "final");
  write_samples();
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
  char text[96];
  std::snprintf(
      text, sizeof text, "planned %.2f GiB, measured %.2f GiB (%+.1f %%)",
      static_cast<double>(planned_bytes_) / 0x1p30, static_cast<double>(measured) / 0x1p30,
      100.0 * static_cast<double>(planned_bytes_ - measured) / static_cast<double>(measured));
  log_info("memory     ", text);
  log_info("done       ", state_.step, " steps in ", duration_text(state_.seconds), "; result in ",
           (output_ / "final").string());
}

int train(const TrainOptions& options) {
  const RunConfig config = resolve(options.config);
  const std::vector<std::string> changed =
      check_output_folder(config, options.resume, options.overwrite);
  for (const std::string& key : changed) log_info("resume     with another ", key);
  const bool has_new_length = std::ranges::any_of(changed, [](const std::string& key) {
    return key == "train.epochs" || key == "train.max_steps";
  });
  if (options.resume && !has_new_length && is_finished(config.output_dir)) {
    log_info(config.output_dir, ": this run is finished; nothing left to do");
    return 0;
  }
  return Trainer(config, options.resume).run();
}

}  // namespace ft
