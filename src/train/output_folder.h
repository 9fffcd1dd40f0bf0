// output_dir before a run: whether it may be used, whether what is in it is finished, and what has
// to go when a run starts anew.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "finetune/config.h"

namespace ft {

/// Refuses (usage) a folder with another run's results unless told to go on or to start anew, and
/// one that holds the run's own inputs; (output) one that is in use.
void check_output_folder(const RunConfig& config, bool resume, bool overwrite);

/// The first of these once more, when nobody else can write there any longer.
void check_no_results(const std::filesystem::path& output);

/// The settings that a resumed run has changed. Error (usage) when one of them would have made
/// another run; `where` names what holds those before.
std::vector<std::string> changed_settings(const RunConfig& now, const RunConfig& before,
                                          const std::string& where);

/// True when metrics.jsonl ends with a summary: it is the last thing that a run writes.
bool is_finished(const std::filesystem::path& output);

/// Removes what a killed run left half-written.
void remove_leftovers(const std::filesystem::path& output);

/// Removes what an earlier run left; --resume would go on with it, and a user would take it for
/// the new run's.
void clear_results(const std::filesystem::path& output);

}  // namespace ft
