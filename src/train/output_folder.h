// output_dir before a run: whether it may be used, whether what is in it is finished, and what has
// to go when a run starts anew.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "finetune/config.h"

namespace ft {

/// Refuses (usage) a folder with another run's results unless told to go on or to start anew, a
/// resumed run with settings that would have made another run, and a folder that holds the run's
/// own inputs; (output) one that is in use. Gives the settings that a resumed run has changed.
std::vector<std::string> check_output_folder(const RunConfig& config, bool resume, bool overwrite);

/// True when metrics.jsonl ends with a summary: it is the last thing that a run writes.
bool is_finished(const std::filesystem::path& output);

/// Removes what a killed run left half-written.
void remove_leftovers(const std::filesystem::path& output);

/// Removes what an earlier run left; --resume would go on with it, and a user would take it for
/// the new run's.
void clear_results(const std::filesystem::path& output);

}  // namespace ft
