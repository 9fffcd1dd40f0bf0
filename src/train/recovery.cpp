// How a run stops before its end with as much as can be saved, and goes on from there.
#include <c10/util/Exception.h>

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "config/fields.h"
#include "kernels/device.h"
#include "train/output_folder.h"
#include "train/schedule.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace ft {
namespace {

/// `"Once upon a time" and 3 more`: the beginnings of the documents of a step.
std::string beginnings(const std::vector<Batch>& batches, const Tokenizer* tokenizer) {
  constexpr size_t kShown = 4;
  constexpr int64_t kTokens = 16;
  std::string text;
  size_t count = 0;
  for (const Batch& b : batches)
    for (size_t d = 0; d + 1 < b.bounds.size(); ++d) {
      if (++count > kShown) continue;
      const auto first = b.tokens.begin() + b.bounds[d];
      const std::vector<int32_t> ids(first,
                                     first + std::min(kTokens, b.bounds[d + 1] - b.bounds[d]));
      std::string begins;
      for (const int32_t id : ids) begins += (begins.empty() ? "ids " : " ") + std::to_string(id);
      if (tokenizer) begins = '"' + tokenizer->decode(ids) + '"';
      text += (text.empty() ? "" : ", ") + printable(begins);
    }
  return count > kShown ? str(text, " and ", count - kShown, " more") : text;
}

/// `train.jsonl has`, or `its files have` where a fingerprint is of several as one.
std::string changed_file(const Json& before, const Json& now) {
  if (now.is_array())
    for (const Json& file : now.array())
      if (!before.is_array() || std::ranges::find(before.array(), file) == before.array().end())
        return printable(file.get("file")->string()) + " has";
  return "its files have";
}

}  // namespace

bool is_out_of_memory(const std::exception& e) {
  return dynamic_cast<const std::bad_alloc*>(&e) || dynamic_cast<const c10::OutOfMemoryError*>(&e);
}

void Trainer::find_checkpoint() {
  checkpoint_ = newest_checkpoint(output_ / "checkpoints");
  if (checkpoint_) state_ = load_state(*checkpoint_);
}

void Trainer::check_start() const {
  if (checkpoint_) return;
  const fs::path folder = output_ / "checkpoints";
  if (is_there(output_ / "final") || has_checkpoints(folder))
    fail_input(folder.string(),
               ": no whole checkpoint to go on from, and starting from the beginning would replace "
               "the results in ",
               output_.string(), "; --overwrite does that");
  log_info("resume     no checkpoint in ", folder.string(), "; starting from the beginning");
}

bool Trainer::takes_new_length() const {
  // Of the checkpoint: a user may have edited config.yaml, or lost it.
  const fs::path file = output_ / "config.yaml";
  std::vector<std::string> changed;
  if (checkpoint_)
    changed = changed_settings(config_,
                               read_config(state_.config, (*checkpoint_ / "state.json").string()),
                               checkpoint_->string());
  else if (fs::exists(file))
    changed = changed_settings(config_, load_config(file.string(), {}), file.string());
  for (const std::string& key : changed) log_info("resume     with another ", key);
  return std::ranges::any_of(changed, [](const std::string& key) {
    return key == "train.epochs" || key == "train.max_steps" ||
           key == "eval.early_stopping_patience";
  });
}

void Trainer::occupy_output() {
  lock_.emplace(output_);
  remove_leftovers(output_);
}

void Trainer::take_inputs(const Json& now) {
  for (const auto& [key, fingerprint] : now.object()) {
    const Json* before = state_.inputs.get(key);
    if (checkpoint_ && before && *before != fingerprint)
      fail_input(key, ": not what the run in ", output_.string(),
                 " began with: ", changed_file(*before, fingerprint),
                 " changed since; put the old ones back, or start anew with --overwrite");
    state_.inputs.set(key, fingerprint);
  }
}

void Trainer::continue_from_checkpoint() {
  load_tensors(*checkpoint_, session_.model->params.trainable(), *optimizer_);
  const std::string device = session_.model->device.str();
  if (state_.threads != num_threads())
    log_warning("threads: the checkpoint was made with ", state_.threads, ", this run has ",
                num_threads(), ": results will differ in the last bits");
  if (state_.device != device)
    log_warning("device: the checkpoint was made on ", state_.device, ", this run is on ", device,
                ": results will differ in the last bits");
  saved_step_ = resumed_step_ = state_.step;
  is_outdated_ = state_.config != to_yaml(config_);
  log_info("resume     from ", checkpoint_->string());
}

void Trainer::check_space() const {
  // What is kept and the one being written; best/, final/ and what replaces them.
  const int64_t checkpoints = (state_.step > 0 ? 1 : config_.save.keep + 1);
  int64_t trained = 0;
  for (const Param* p : session_.model->params.trainable())
    trained += static_cast<int64_t>(p->value.nbytes());
  const int64_t needed = checkpoints * checkpoints_->checkpoint_bytes() + 3 * trained;
  std::error_code unknown;
  const auto space = fs::space(output_, unknown);
  if (unknown || space.available >= static_cast<uint64_t>(needed)) return;
  log_warning(output_.string(), ": ", space.available >> 20, " MiB are free, this run needs about ",
              (needed >> 20) + 1, " MiB for checkpoints and results");
}

void Trainer::save_now(bool goes_on) {
  goes_on = goes_on && !is_last_step_ && !StopSignals::received();
  if (saved_step_ != state_.step || is_outdated_) {
    state_.config = to_yaml(config_);
    if (goes_on) {
      checkpoints_->save_beside(state_);
    } else {
      checkpoints_->save(state_);
    }
    saved_step_ = state_.step;
    is_outdated_ = false;
  }
  if (!goes_on) checkpoints_->wait();
}

int Trainer::end_by_signal() {
  const int signal = StopSignals::received();
  complete();
  progress_.pause();
  if (state_.step > 0) save_now();  // before the first step there is nothing to go on from
  log_info("stopped by signal ", signal, " after step ", state_.step, "; go on with --resume");
  return 128 + signal;
}

std::optional<LoadedStep> Trainer::load_step() {
  try {
    return loader_->next();
  } catch (const Error& e) {
    stop_at_error(e, {});
  } catch (const std::bad_alloc&) {
    stop_in_step();
  }
}

StepContext Trainer::step_context() {
  return {*session_.model, session_.adapters ? &*session_.adapters : nullptr, *optimizer_, config_};
}

void Trainer::begin(LoadedStep step) {
  const double rate = learning_rate_at(config_.train, peak_rate_, begun(), num_steps_);
  const auto start = std::chrono::steady_clock::now();
  try {
    StepInFlight begun_step = begin_step(step_context(), step.batches, begun(), rate);
    in_flight_.push_back({std::move(begun_step), std::move(step), rate, start});
  } catch (const Error& e) {
    stop_at_error(e, step.batches);
  } catch (const std::exception& e) {
    if (!is_out_of_memory(e)) throw;
    stop_in_step();
  }
}

void Trainer::stop_at_error(const Error& e, const std::vector<Batch>& batches) {
  complete();  // the state to save has them in it
  progress_.pause();
  std::string what = e.what();
  if (!batches.empty())
    what += "; its documents begin " + beginnings(batches, session_.tokenizer.get());
  const std::string checkpoints = (output_ / "checkpoints").string();
  if (!optimizer_->refused()) {
    try {
      save_now();
    } catch (const Error& not_saved) {
      fail(e.code(), what, "; ", not_saved.what());
    }
    fail(e.code(), what, "; the state before it is in ", checkpoints);
  }
  checkpoints_->wait();
  if (saved_step_ < 0) fail(e.code(), what, "; there is no checkpoint yet");
  fail(e.code(), what, "; the last state to go on from is step ", saved_step_, " in ", checkpoints);
}

void Trainer::stop_without_memory(const std::string& where) {
  progress_.pause();
  checkpoints_->wait();
  const std::string last = saved_step_ < 0 ? "there is no checkpoint yet"
                                           : str("go on from step ", saved_step_, " with --resume");
  fail(Code::kRun, where, ": out of memory (planned ", gib_text(planned_bytes_),
       "): a smaller train.batch_size (", config_.train.batch_size, ") or data.max_length (",
       config_.data.max_length,
       "), train.gradient_checkpointing: true or method: lora needs less; ",
       "finetune plan --memory names the largest setting that fits; ", last);
}

/// The update may have begun: the state in memory is not saved.
void Trainer::stop_in_step() {
  complete();
  stop_without_memory(str("step ", state_.step + 1));
}

void Trainer::stop_in_evaluation() {
  state_.owes_evaluation = true;
  try {
    if (state_.step > 0) save_now();
  } catch (const std::exception&) {
    // The memory that is missing may be wanted for this too; what is saved is told below.
  }
  stop_without_memory(str("evaluation after step ", state_.step));
}

}  // namespace ft
