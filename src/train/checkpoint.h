// Resumable state: checkpoints/step-N/, written whole or not at all.
//   state.json             step, tokens, best eval loss, the place in the data and which files it
//                          was, what the run was (config, threads)
//   trained.safetensors    every trained tensor in its own dtype
//   optimizer.safetensors  AdamW's state
//   manifest.json          size and checksum of each file; written last
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "data/loader.h"
#include "model/params.h"
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
  LoaderPosition data;
  Json data_files;  ///< Rows::fingerprint() of training and eval data
};

void save_checkpoint(const std::filesystem::path& folder, const TrainState& state,
                     const std::vector<Param*>& params, const Optimizer& optimizer);

/// Reads state.json alone, of a folder that newest_checkpoint() gave.
TrainState read_state(const std::filesystem::path& folder);

/// Reads weights and optimizer back. Error (input) when they are of another run.
void load_checkpoint(const std::filesystem::path& folder, const std::vector<Param*>& params,
                     const Optimizer& optimizer);

/// The newest folder checkpoints/step-N whose manifest holds; damaged ones are passed over with a
/// warning.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& checkpoints);

/// Deletes all but the newest `keep`.
void prune_checkpoints(const std::filesystem::path& checkpoints, int64_t keep);

}  // namespace ft
