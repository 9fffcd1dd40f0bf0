// Resumable state: checkpoints/step-N/, written whole or not at all.
//   state.json             step, tokens, best eval loss, the place in the data, what the run was
//                          (config, inputs, threads, device)
//   trained.safetensors    every trained tensor in its own dtype
//   optimizer.safetensors  AdamW's state
//   manifest.json          size and checksum of each file; written last
#pragma once

#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "data/loader.h"
#include "model/load.h"
#include "train/optimizer.h"

namespace ft {

struct TrainState {
  int64_t step = 0;  ///< steps done
  int64_t tokens = 0;
  double seconds = 0;
  std::optional<double> best_eval_loss, last_eval_loss;
  int64_t evaluations_without_gain = 0;
  /// The evaluation after this step was cut short by a signal: a resumed run begins with it.
  bool owes_evaluation = false;
  std::string config;  ///< to_yaml of the run
  int64_t threads = 0;
  std::string device;
  LoaderPosition data;
  Json inputs = Json::Object{};  ///< key of the configuration -> fingerprint of what it names
};

/// Writes the checkpoints of a run into `output`/checkpoints and keeps the newest whole ones.
class CheckpointWriter {
 public:
  /// Keeps references to the parameters and the optimizer.
  CheckpointWriter(std::filesystem::path output, const SaveConfig& config,
                   std::vector<Param*> params, const Optimizer& optimizer);
  /// Waits; an error that nobody asked for is lost.
  ~CheckpointWriter() = default;

  /// Gets the memory of the copies that save_beside makes, beside what follows: the first save
  /// would wait for it. When a step has shown what memory is left.
  void prepare();
  /// On disk when it returns.
  void save(const TrainState& state);
  /// Copies the state and writes it beside what follows, after the one before is on disk. Where the
  /// copy would not fit, and of paged states, as save().
  void save_beside(const TrainState& state);
  /// Throws what has gone wrong beside training.
  void check();
  void wait();

  /// Bytes of a checkpoint, and of the copy that save_beside makes (0: none).
  int64_t checkpoint_bytes() const;
  int64_t copy_bytes() const;

 private:
  void write(const TrainState& state, const NamedTensors& trained, const NamedTensors& states);
  void prune();
  [[noreturn]] void not_saved(Code code, int64_t step, const std::string& why) const;

  std::filesystem::path output_, folder_;
  SaveConfig config_;
  std::vector<Param*> params_;
  const Optimizer& optimizer_;
  /// The copies: their memory stays, so that saving makes none of it anew.
  std::shared_ptr<std::byte> copies_;
  NamedTensors trained_copy_, states_copy_;
  std::set<std::filesystem::path> whole_;  ///< written or verified by this process
  std::future<void> pending_;              ///< last: its thread uses all of the above
};

/// The state, weights and optimizer of a whole checkpoint. Error (input) when it is of another run.
TrainState load_state(const std::filesystem::path& folder);
void load_tensors(const std::filesystem::path& folder, const std::vector<Param*>& params,
                  const Optimizer& optimizer);

/// Whether there is any checkpoints/step-N, whole or not.
bool has_checkpoints(const std::filesystem::path& checkpoints);

/// The newest folder checkpoints/step-N whose manifest holds; damaged ones are passed over with a
/// warning.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& checkpoints);

}  // namespace ft
