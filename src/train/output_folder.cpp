#include "train/output_folder.h"

#include <utility>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "config/fields.h"
#include "train/metrics.h"

namespace ft {
namespace {

/// What a run leaves, interface order.
constexpr const char* kResults[] = {"config.yaml", "metrics.jsonl", "samples.jsonl", "report.html",
                                    "profile.txt", "profile.json",  "tensorboard",   "checkpoints",
                                    "best",        "final"};

/// Settings that a resumed run may change: how long it goes on, what is computed again instead of
/// kept (the same numbers), what is measured and what is written. eval.max_examples is none of
/// them: losses before and after could not be compared.
bool may_change(const std::string& key) {
  return key.starts_with("log.") || key.starts_with("save.") || key == "output_dir" ||
         key == "train.epochs" || key == "train.max_steps" ||
         key == "train.gradient_checkpointing" || key == "train.profile_steps" ||
         (key.starts_with("eval.") && key != "eval.max_examples");
}

/// A run must not write into, or with --overwrite delete, what it reads.
void check_inputs_outside(const RunConfig& c) {
  std::vector<std::pair<const char*, std::string>> inputs = {{"model", c.model}};
  for (const auto& file : c.data.train) inputs.emplace_back("data.train", file);
  for (const auto& file : c.data.eval) inputs.emplace_back("data.eval", file);
  inputs.emplace_back("data.chat_template", c.data.chat_template);
  if (c.lora.resume_from) inputs.emplace_back("lora.resume_from", *c.lora.resume_from);
  const fs::path output = fs::weakly_canonical(c.output_dir);
  for (const auto& [key, path] : inputs) {
    const fs::path inside = fs::weakly_canonical(path).lexically_relative(output);
    if (!inside.empty() && *inside.begin() != "..")
      fail_usage(key, ": ", printable(path),
                 " lies in output_dir, which the run writes to; another output_dir is wanted");
  }
}

}  // namespace

bool is_finished(const fs::path& output) {
  const fs::path file = output / "metrics.jsonl";
  if (!is_there(file) || !is_there(output / "final")) return false;
  const auto lines = whole_lines(read_file(file));
  if (lines.empty()) return false;
  try {
    return get_string(parse_metrics_line(lines.back(), ""), "type", "") == "summary";
  } catch (const Error&) {
    return false;  // a damaged line: a resumed run writes what is missing again
  }
}

void check_output_folder(const RunConfig& config, bool resume, bool overwrite) {
  const fs::path output = config.output_dir;
  if (resume && overwrite) fail_usage("--resume and --overwrite: only one of them");
  if (is_there(output) && !fs::is_directory(output))
    fail(Code::kOutput, output.string(), ": is not a folder; another output_dir is wanted");
  // Found now, not after the model is read.
  if (is_there(output / ".lock")) const FolderLock probe(output);
  check_inputs_outside(config);
  if (!resume && !overwrite) check_no_results(output);
}

void check_no_results(const fs::path& output) {
  for (const char* name : {"metrics.jsonl", "config.yaml", "checkpoints", "best", "final"})
    if (is_there(output / name))
      fail_usage(
          printable_line(output.string()),
          ": holds another run's results; --resume goes on with it, --overwrite starts anew");
}

std::vector<std::string> changed_settings(const RunConfig& now, const RunConfig& before,
                                          const std::string& where) {
  std::vector<std::string> allowed;
  std::string refused;
  for (const std::string& key : changed_keys(before, now)) {
    if (may_change(key))
      allowed.push_back(key);
    else
      refused += (refused.empty() ? "" : ", ") + key;
  }
  if (!refused.empty())
    fail_usage(printable_line(where), ": ", refused,
               ": not as in this run; --resume goes on with the same settings (leave them as they "
               "were, or start anew with --overwrite)");
  return allowed;
}

void remove_leftovers(const fs::path& output) {
  remove_staging(output);
  remove_staging(output / "checkpoints");
  for (const fs::path& path : list_folder(output))
    if (path.filename().string().starts_with(".optimizer-")) remove_tree(path);
}

void clear_results(const fs::path& output) {
  for (const char* name : kResults) remove_tree(output / name);
}

}  // namespace ft
