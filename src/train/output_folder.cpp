#include "train/output_folder.h"

#include <utility>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "config/fields.h"
#include "train/metrics.h"

namespace ft {
namespace {

/// What a run leaves, interface order; the folders also with the names of their staging.
constexpr const char* kResults[] = {
    "config.yaml",   "metrics.jsonl", "samples.jsonl",  "report.html", "profile.txt",
    "profile.json",  "tensorboard",   "checkpoints",    "best",        "final",
    ".best.staging", ".best.old",     ".final.staging", ".final.old"};

/// Settings that a resumed run may change: they decide what is written, not what is computed.
bool may_change(const std::string& key) {
  return key.starts_with("log.") || key.starts_with("save.") || key.starts_with("eval.sample") ||
         key == "output_dir" || key == "train.profile_steps";
}

void check_same_run(const RunConfig& now, const fs::path& saved_file) {
  const RunConfig before = load_config(saved_file.string(), {});
  for (const std::string& key : changed_keys(before, now))
    if (!may_change(key))
      fail_usage(
          saved_file.string(), ": ", key,
          ": differs from this run's; --resume goes on with the same settings (leave the key "
          "as it was, or start anew with --overwrite)");
}

/// A run must not write into, or with --overwrite delete, what it reads.
void check_inputs_outside(const RunConfig& c) {
  std::vector<std::pair<const char*, std::string>> inputs = {{"model", c.model}};
  for (const auto& file : c.data.train) inputs.emplace_back("data.train", file);
  for (const auto& file : c.data.eval) inputs.emplace_back("data.eval", file);
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
  if (!fs::exists(file) || !fs::exists(output / "final")) return false;
  const auto lines = whole_lines(read_file(file));
  if (lines.empty()) return false;
  const auto type =
      get_string(parse_metrics_line(lines.back(), file.string()), "type", file.string());
  return type == "summary";
}

void check_output_folder(const RunConfig& config, bool resume, bool overwrite) {
  const fs::path output = config.output_dir;
  if (resume && overwrite) fail_usage("--resume and --overwrite: only one of them");
  if (fs::exists(output) && !fs::is_directory(output))
    fail(Code::kOutput, output.string(), ": is not a folder; another output_dir is wanted");
  if (resume && fs::exists(output / "config.yaml")) check_same_run(config, output / "config.yaml");
  check_inputs_outside(config);
  if (resume || overwrite) return;
  for (const char* name : {"metrics.jsonl", "config.yaml", "checkpoints", "best", "final"})
    if (fs::exists(output / name))
      fail_usage(
          output.string(),
          ": holds another run's results; --resume goes on with it, --overwrite starts anew");
}

void clear_results(const fs::path& output) {
  for (const char* name : kResults) {
    std::error_code error;
    fs::remove_all(output / name, error);
    if (error)
      fail(Code::kOutput, (output / name).string(), ": cannot be removed: ", error.message());
  }
}

}  // namespace ft
