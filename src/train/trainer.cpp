// train(): from a configuration to final/. The step itself is in step.cpp, stopping and resuming in
// recovery.cpp, what a run leaves in trainer_results.cpp.
#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "finetune/run.h"
#include "kernels/device.h"
#include "kernels/float8.h"
#include "train/evaluate.h"
#include "train/fingerprint.h"
#include "train/memory_plan.h"
#include "train/output_folder.h"
#include "train/profiler.h"
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

}  // namespace

Trainer::Trainer(RunConfig config, const TrainerOptions& options)
    : config_(std::move(config)),
      options_(options),
      output_(config_.output_dir),
      peak_rate_(config_.train.learning_rate.value()) {}

void Trainer::prepare_data() {
  SplitRows rows = read_split(config_.data, config_.seed);
  Json files = Json::Object{{"data.train", rows.train.fingerprint()}};
  if (!config_.data.eval.empty()) files.set("data.eval", rows.eval.fingerprint());
  take_inputs(files);
  DataContext context = session_.data_context(config_.data);
  context.keep_texts = false;
  loader_.emplace(std::move(rows.train), context, config_, state_.data, options_.window_bytes);
  state_.data = loader_->start();
  num_steps_ = loader_->num_steps();
  if (rows.eval.empty()) return;
  context.keep_texts = true;
  Dataset eval_set = make_dataset(rows.eval, context, {.max_documents = config_.eval.max_examples});
  eval_documents_ = std::move(eval_set.documents);
  eval_ = take_examples(eval_documents_);
}

void Trainer::plan_run() {
  Model& model = *session_.model;
  int64_t program = 0;
  if (model.device.is_cpu()) {
    program = resident_memory();
    // The next window, which is not there yet: ids and labels.
    if (loader_->num_windows() > 1)
      program += loader_->window().tokens() * static_cast<int64_t>(2 * sizeof(int32_t));
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
  RunConfig config = config_;
  config.train.max_steps = num_steps_;
  saves_beside_ = saves_beside(config);
  const auto outline = outline_of_run(config);
  const BatchSize batch = largest_batch(*loader_, config_);
  const auto plan = [&](Recompute recompute) {
    return plan_memory(config, recompute, *outline, batch, model.device.is_cuda(), program);
  };
  model.decoder.recompute =
      recompute_for(config_.train, plan, usable_memory(model.device), model.device.is_cuda());
  planned_bytes_ = plan(model.decoder.recompute).peak();
}

void Trainer::prepare_model() {
  Model& model = *session_.model;
  model.decoder.noise_alpha = config_.train.neftune_alpha;
  if (config_.method == "full") {
    if (model.quantization)
      fail_usage("method: full: ", printable_line(model.folder.string()),
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

void Trainer::arrange_base() {
  Model& model = *session_.model;
  bool in_float8 = config_.lora.base_dtype == "float8";
  if (in_float8 && !has_float8(model.device)) {
    log_warning("lora.base_dtype: float8 needs a GPU of compute capability 8.9 or later, not ",
                device_text(model.device), ": the frozen layers multiply in ", config_.dtype);
    in_float8 = false;
  }
  if (!session_.adapters || !model.device.is_cuda()) return;
  model.decoder.add_borders(in_float8);
  if (in_float8)
    log_info("base       frozen layers multiply in eight bits (E4M3, a scale per row)");
}

void Trainer::report_start() {
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
  const DataCounts& counts = loader_->counts();
  const Window& window = loader_->window();
  const int64_t windows = loader_->num_windows();
  const char* about = windows > 1 ? "about " : "";
  const auto whole = [&](int64_t of_window) { return loader_->estimate(of_window); };
  log_info("data       ", about, whole(counts.examples), " ", loader_->format(), " examples, ",
           whole(counts.tokens), " tokens, ", whole(counts.targets),
           " trained on (data.train_on: ", config_.data.train_on, "); eval: ", eval_.size(),
           " examples");
  if (windows > 1)
    log_info("windows    ", windows, ", one in training and the next prepared meanwhile");
  report_counts(counts, windows > 1 ? "in one window " : "");
  char filled[32];
  std::snprintf(filled, sizeof filled, "%.1f", 100 * window.occupancy());
  log_info("memory     ", gib_text(planned_bytes_), " planned; in the backward pass ",
           recompute_name(model.decoder.recompute).text,
           " (train.gradient_checkpointing: ", config_.train.gradient_checkpointing, ")");
  log_info("rows       ", about, whole(window.num_rows()), " of at most ", config_.data.max_length,
           " tokens, ", filled, " % filled; ", is_estimate() ? about : "", num_steps_,
           " steps, learning rate ", peak_rate_);
}

void Trainer::report_counts(const DataCounts& counts, const char* of) const {
  if (counts.truncated + counts.dropped + counts.split + counts.no_targets == 0) return;
  log_warning(of, counts.truncated, " examples truncated, ", counts.dropped, " dropped and ",
              counts.split, " split at data.max_length ", config_.data.max_length, " (",
              counts.tokens_lost, " tokens lost); ", counts.no_targets,
              " left out for having no trained token");
}

int Trainer::run() {
  const auto start = Clock::now();
  if (options_.resume) {
    if (is_there(output_)) occupy_output();
    find_checkpoint();
    if (!takes_new_length() && is_finished(output_)) {
      write_report(output_);  // during which it may have been killed
      log_info(output_.string(), ": this run is finished; nothing left to do");
      return 0;
    }
    check_start();
  }
  session_ = open_session(config_, std::nullopt);
  take_inputs(fingerprints(config_));
  prepare_data();
  plan_run();
  prepare_model();
  arrange_base();
  make_folders(output_);
  if (!lock_) {
    occupy_output();
    // Another run may have come and gone while the model was read.
    if (!options_.overwrite) check_no_results(output_);
  }
  optimizer_.emplace(session_.model->params.trainable(), config_.train,
                     static_cast<uint64_t>(config_.seed), output_);
  checkpoints_.emplace(output_, config_.save, session_.model->params.trainable(), *optimizer_);
  if (checkpoint_) continue_from_checkpoint();
  if (!options_.resume) clear_results(output_);
  state_.threads = num_threads();
  state_.device = session_.model->device.str();
  report_start();
  check_space();
  if (state_.step == 0) remove_report(output_);
  // From here on the run is not finished, whatever its configuration says.
  metrics_.emplace(output_ / "metrics.jsonl", state_.step, config_.log.tensorboard,
                   state_.owes_evaluation);
  replace_file(output_ / "config.yaml", to_yaml(config_));
  log_info("ready      after ", duration_text(seconds_since(start)));
  const StopSignals signals;
  return with_report(output_, [this] {
    try {
      return loop();
    } catch (const std::exception& e) {
      if (!is_out_of_memory(e)) throw;
      stop_without_memory(str("after step ", state_.step));
    }
  });
}

bool Trainer::is_estimate() const {
  return loader_->num_windows() > 1 && config_.train.max_steps != num_steps_;
}

bool Trainer::is_evaluation_step(int64_t done) const {
  if (config_.eval.every_steps) return done % *config_.eval.every_steps == 0;
  const int64_t parts = config_.eval.evaluations + 1;
  if (done <= 0 || num_steps_ <= 0) return false;
  // Evaluation i of E falls on step round(i * steps / (E + 1)); two on the same step are one. The
  // first that falls on this step or a later one:
  const int64_t steps = 2 * num_steps_,
                i = std::max<int64_t>(1, (parts * (2 * done - 1) + steps - 1) / steps);
  return i < parts && (i * steps + parts) / (2 * parts) == done;
}

bool Trainer::is_save_step(int64_t done) const {
  return config_.save.every_steps ? done % *config_.save.every_steps == 0
                                  : is_evaluation_step(done);
}

int Trainer::loop() {
  loop_start_ = Clock::now();
  seconds_before_ = state_.seconds;
  StepProfiler profiler(config_.train.profile_steps, session_.model->device, output_);
  loader_->begin();
  if ((state_.step == 0 || state_.owes_evaluation) && !eval_.empty()) evaluate_now();
  bool stopped_early = has_stopped_improving();
  if (StopSignals::received()) return end_by_signal();
  // A GPU is given the next step before the numbers of this one are read.
  const bool runs_ahead =
      options_.runs_ahead || (session_.model->device.is_cuda() && config_.train.profile_steps == 0);
  while (begun() < config_.train.max_steps.value_or(INT64_MAX) && !stopped_early) {
    profiler.begin_step();
    std::optional<LoadedStep> step;
    {
      const ProfileScope phase("data", true);
      step = load_step();
    }
    if (!step) break;
    is_last_step_ = step->is_last || begun() + 1 == config_.train.max_steps;
    begin(std::move(*step));
    const bool is_due = is_last_step_ || is_evaluation_step(begun());
    const bool saves = is_save_step(begun()) || (is_last_step_ && !config_.save.every_steps) ||
                       SaveRequests::take();
    const bool stands = !runs_ahead || is_due || saves || StopSignals::received();
    complete(stands ? 0 : 1);
    profiler.end_step();
    if (is_due && !eval_.empty()) stopped_early = evaluate_now();
    if (saves) {
      SaveRequests::take();  // what was asked for until now is met by this one
      save_now(/*goes_on=*/true);
    }
    if (saves_beside_ && state_.step == resumed_step_ + 1) checkpoints_->prepare();
    checkpoints_->check();
    if (StopSignals::received()) return end_by_signal();
  }
  progress_.pause();
  profiler.finish();
  if (stopped_early)
    log_info("stopped early: no better evaluation in ", *config_.eval.early_stopping_patience,
             " tries");
  if (loader_->num_windows() > 1) {
    const DataCounts& all = state_.data.counts;
    log_info("data       ", all.rows, " rows seen, ", all.examples, " examples, ", all.tokens,
             " tokens, ", all.targets, " trained on");
    report_counts(all, "");
  }
  loader_.reset();
  return finish();
}

void Trainer::complete(size_t left) {
  while (in_flight_.size() > left) complete_oldest();
}

void Trainer::complete_oldest() {
  const StepResult result = [&] {
    InFlight& oldest = in_flight_.front();
    try {
      return finish_step(step_context(), oldest.step);
    } catch (const Error& e) {
      const std::vector<Batch> batches = std::move(oldest.data.batches);
      in_flight_.clear();  // what was begun since has changed nothing
      const std::string culprit = first_not_finite(step_context(), batches, state_.step);
      stop_at_error(culprit.empty() ? e
                                    : Error(e.code(), str(e.what(),
                                                          "; the first tensor that is "
                                                          "not finite: ",
                                                          culprit)),
                    batches);
    }
  }();
  const InFlight done = std::move(in_flight_.front());
  in_flight_.pop_front();
  ++state_.step;
  state_.data = done.data.after;
  state_.tokens += result.tokens;
  record(result, done.learning_rate, seconds_since(std::max(done.start, last_end_)));
  last_end_ = Clock::now();
  state_.seconds = seconds_before_ + seconds_since(loop_start_);
}

void Trainer::record(const StepResult& r, double learning_rate, double seconds) {
  const double rate = static_cast<double>(r.tokens) / seconds;
  const int64_t memory = peak_memory(session_.model->device);
  metrics_->write(Json::Object{{"type", "train"},
                               {"step", state_.step},
                               {"epoch", state_.data.epochs_done},
                               {"loss", r.loss},
                               {"grad_norm", r.grad_norm},
                               {"learning_rate", learning_rate},
                               {"tokens", state_.tokens},
                               {"target_tokens", r.targets},
                               {"tokens_per_second", rate},
                               {"step_seconds", seconds},
                               {"memory_bytes", memory}});
  run_seconds_ += seconds;
  if (const auto median = watch_.exceeded(r.loss)) {
    progress_.pause();
    log_warning("step ", state_.step, ": the loss is ", r.loss,
                ", more than ten times the median (", *median,
                ") of the steps before it; a look at their data or a lower "
                "train.learning_rate may help");
  }
  const bool is_last = is_last_step_ && in_flight_.empty();
  if (state_.step % config_.log.every_steps != 0 && !is_last) return;
  const int64_t steps = is_last ? state_.step : std::max(num_steps_, state_.step);
  const double left = run_seconds_ / static_cast<double>(state_.step - resumed_step_) *
                      static_cast<double>(steps - state_.step);
  progress_.show(
      {state_.step, steps, is_estimate() && !is_last, r.loss, learning_rate, rate, memory, left});
}

bool Trainer::evaluate_now() {
  const auto start = Clock::now();
  const Losses losses = [&] {
    try {
      return evaluate_examples(*session_.model, eval_, config_.data.max_length, {},
                               [] { return StopSignals::received() != 0; });
    } catch (const std::exception& e) {
      if (!is_out_of_memory(e)) throw;
      stop_in_evaluation();
    }
  }();
  is_outdated_ |= state_.owes_evaluation && losses.is_complete;
  state_.owes_evaluation = !losses.is_complete;
  if (state_.owes_evaluation) return false;
  const double loss = losses.mean();
  state_.last_eval_loss = loss;
  metrics_->write(Json::Object{{"type", "eval"},
                               {"step", state_.step},
                               {"epoch", state_.data.epochs_done},
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

int train(const TrainOptions& options) {
  const RunConfig config = resolve(options.config);
  const SaveRequests save_requests;
  check_output_folder(config, options.resume, options.overwrite);
  return Trainer(config, {.resume = options.resume, .overwrite = options.overwrite}).run();
}

}  // namespace ft
