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
  Trainer(RunConfig config, bool resume);
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
  void report_start() const;
  void continue_from_checkpoint();
  void check_inputs(const TrainState& before) const;
  /// Warns when the disk has no room for what the run will leave.
  void check_space() const;
  StepResult take_step(double rate);
  [[noreturn]] void stop_at_bad_step(const Error& error, const std::vector<Batch>& batches);
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
  bool is_evaluation_step(int64_t done) const;

  RunConfig config_;
  bool resume_;
  std::filesystem::path output_;
  Session session_;
  std::vector<Example> train_, eval_;
  std::vector<Document> eval_documents_;
  DataCounts counts_;
  std::string format_;
  std::optional<Loader> loader_;
  std::optional<Optimizer> optimizer_;
  std::optional<CheckpointWriter> checkpoints_;
  std::optional<MetricsFile> metrics_;
  ProgressLine progress_;
  TrainState state_;
  int64_t num_steps_ = 0, saved_step_ = -1, resumed_step_ = 0, planned_bytes_ = 0;
  double peak_rate_, run_seconds_ = 0;
};

}  // namespace ft
