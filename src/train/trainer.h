// The loop: resume, step, and, every so many steps, evaluate and save. No hooks: what should happen
// each step is a line in it.
#pragma once

#include "data/loader.h"
#include "finetune/error.h"
#include "infer/session.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/step.h"

namespace ft {

class Trainer {
 public:
  /// train.learning_rate is a number here.
  Trainer(RunConfig config, bool resume, uint64_t window_bytes = kWindowBytes);
  ~Trainer() = default;
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  /// 0, or 128 + N after signal N.
  int run();

 private:
  void prepare_model();
  void prepare_data();
  /// Predicts the peak, which finish() compares with what was measured.
  void plan_run();
  void report_start();
  void report_counts(const DataCounts& counts, const char* of) const;
  /// Reads where to go on from; with the model in place, takes that up.
  void find_checkpoint();
  void continue_from_checkpoint();
  /// Notes fingerprints of what the run reads. Error (input) when a resumed one began with others.
  void take_inputs(const Json& now);
  /// Warns when the disk has no room for what the run will leave.
  void check_space() const;
  std::optional<LoadedStep> load_step();
  StepResult take_step(const std::vector<Batch>& batches, double rate);
  /// `batches`: of the step that failed, none when the data did.
  [[noreturn]] void stop_at_error(const Error& error, const std::vector<Batch>& batches);
  [[noreturn]] void stop_without_memory();
  int loop();
  int end_by_signal();
  void record(const StepResult& result, double learning_rate, double seconds);
  /// Returns true when early stopping says so.
  bool evaluate_now();
  bool has_stopped_improving() const;
  /// `goes_on`: training does, and the checkpoint is written beside it.
  void save_now(bool goes_on = false);
  void finish();
  void write_final(const std::filesystem::path& folder) const;
  void write_samples();
  /// Whether num_steps_ is one.
  bool is_estimate() const;
  bool is_evaluation_step() const;

  RunConfig config_;
  bool resume_;
  uint64_t window_bytes_;
  std::filesystem::path output_;
  std::optional<std::filesystem::path> checkpoint_;  ///< to resume from
  Session session_;
  std::vector<Example> eval_;
  std::vector<Document> eval_documents_;
  std::optional<Loader> loader_;
  std::optional<Optimizer> optimizer_;
  std::optional<CheckpointWriter> checkpoints_;
  std::optional<MetricsFile> metrics_;
  ProgressLine progress_;
  TrainState state_;
  bool is_last_step_ = false;  ///< of the run, of the step before
  int64_t num_steps_ = 0;      ///< with several windows an estimate
  int64_t saved_step_ = -1, resumed_step_ = 0, planned_bytes_ = 0;
  double peak_rate_, run_seconds_ = 0;
};

}  // namespace ft
