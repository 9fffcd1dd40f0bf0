// The loop: resume, step, and, every so many steps, evaluate and save. No hooks: what should happen
// each step is a line in it.
#pragma once

#include <chrono>
#include <deque>

#include "base/files.h"
#include "data/loader.h"
#include "finetune/error.h"
#include "infer/session.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/step.h"

namespace ft {

struct TrainerOptions {
  bool resume = false, overwrite = false;
  // What the tests set otherwise.
  uint64_t window_bytes = kWindowBytes;
  bool runs_ahead = false;  ///< on a CPU too
};

/// Of the host or of a device.
bool is_out_of_memory(const std::exception& e);

class Trainer {
 public:
  /// train.learning_rate is a number here.
  Trainer(RunConfig config, const TrainerOptions& options = {});
  ~Trainer() = default;
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  /// 0, or 128 + N after signal N.
  int run();

 private:
  void prepare_model();
  void arrange_base();
  void prepare_data();
  /// Predicts the peak, which finish() compares with what was measured.
  void plan_run();
  void report_start();
  void report_counts(const DataCounts& counts, const char* of) const;
  void occupy_output();
  /// Reads where to go on from; with the model in place, takes that up.
  void find_checkpoint();
  /// Tells what a resumed run has changed, and whether its length is among it.
  bool takes_new_length() const;
  /// Error (input) when a resumed run without a whole checkpoint would replace what there is.
  void check_start() const;
  void continue_from_checkpoint();
  /// Notes fingerprints of what the run reads. Error (input) when a resumed one began with others.
  void take_inputs(const Json& now);
  /// Warns when the disk has no room for what the run will leave.
  void check_space() const;
  std::optional<LoadedStep> load_step();
  /// Puts the step behind those in flight.
  void begin(LoadedStep step);
  /// Waits for the steps in flight but the newest `left`, and takes them into the run's state.
  void complete(size_t left = 0);
  void complete_oldest();
  StepContext step_context();
  /// Where the run stands with the steps in flight.
  int64_t begun() const { return state_.step + static_cast<int64_t>(in_flight_.size()); }
  /// `batches`: of the step that failed, none when the data did.
  [[noreturn]] void stop_at_error(const Error& error, const std::vector<Batch>& batches);
  [[noreturn]] void stop_without_memory(const std::string& where);
  [[noreturn]] void stop_in_step();
  [[noreturn]] void stop_in_evaluation();
  int loop();
  int end_by_signal();
  void record(const StepResult& result, double learning_rate, double seconds);
  /// Whether step `done` (from 1) is one to evaluate after, and whether one to save after.
  bool is_evaluation_step(int64_t done) const;
  bool is_save_step(int64_t done) const;
  /// Returns true when early stopping says so.
  bool evaluate_now();
  bool has_stopped_improving() const;
  /// `goes_on`: training does, and the checkpoint is written beside it.
  void save_now(bool goes_on = false);
  /// 0, or 128 + N when signal N came while samples were generated.
  int finish();
  void write_final(const std::filesystem::path& folder) const;
  void write_samples();
  /// Whether num_steps_ is one.
  bool is_estimate() const;

  RunConfig config_;
  TrainerOptions options_;
  std::filesystem::path output_;
  std::optional<FolderLock> lock_;  ///< of output_; goes after all that writes there
  std::optional<std::filesystem::path> checkpoint_;  ///< to resume from
  Session session_;
  std::vector<Example> eval_;
  std::vector<Document> eval_documents_;
  std::optional<Loader> loader_;
  std::optional<Optimizer> optimizer_;
  std::optional<CheckpointWriter> checkpoints_;
  std::optional<MetricsFile> metrics_;
  LossWatch watch_;
  ProgressLine progress_;
  TrainState state_;
  /// A step that was begun and whose numbers are not known yet.
  struct InFlight {
    StepInFlight step;
    LoadedStep data;
    double learning_rate;
    std::chrono::steady_clock::time_point start;
  };
  std::deque<InFlight> in_flight_;
  std::chrono::steady_clock::time_point loop_start_, last_end_;
  bool saves_beside_ = false;
  bool is_last_step_ = false;  ///< of the run: the newest one begun
  int64_t num_steps_ = 0;      ///< with several windows an estimate
  int64_t saved_step_ = -1, resumed_step_ = 0, planned_bytes_ = 0;
  bool is_outdated_ = false;  ///< the checkpoint of saved_step_: more than steps has changed since
  double peak_rate_, run_seconds_ = 0, seconds_before_ = 0;
};

}  // namespace ft
