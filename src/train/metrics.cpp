#include "train/metrics.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"

namespace ft {
namespace {

/// The lines of an interrupted run up to `step`, less the evaluation after it if that is still
/// owed. A line that cannot be read may only stand behind them.
std::string lines_until(const std::string& text, int64_t step, bool owes_evaluation,
                        const std::string& file) {
  std::string kept;
  int64_t steps = 0, number = 0;
  std::optional<Error> unreadable;
  for (const std::string& line : whole_lines(text)) {
    const std::string where = str(file, ":", ++number);
    std::optional<int64_t> at;
    std::optional<std::string> type;
    try {
      const Json json = parse_metrics_line(line, where);
      at = get_int(json, "step", where);
      type = get_string(json, "type", where);
    } catch (const Error& e) {
      if (!unreadable) unreadable = e;
      continue;
    }
    if (!at || *at > step || (owes_evaluation && *at == step && type == "eval")) continue;
    if (unreadable) throw *unreadable;
    kept += line + "\n";
    steps += type == "train";
  }
  if (steps != step)
    log_warning(file, ": has ", steps, " training steps up to step ", step,
                ", from where this run goes on");
  return kept;
}

struct Tag {
  std::string_view type, key, tag;
};
constexpr Tag kTags[] = {
    {"train", "loss", "train/loss"},
    {"train", "grad_norm", "train/grad_norm"},
    {"train", "learning_rate", "train/learning_rate"},
    {"train", "tokens_per_second", "train/tokens_per_second"},
    {"train", "memory_bytes", "train/memory_bytes"},
    {"eval", "loss", "eval/loss"},
    {"eval", "perplexity", "eval/perplexity"},
};

}  // namespace

MetricsFile::MetricsFile(fs::path file, int64_t resume_step, bool tensorboard, bool owes_evaluation)
    : file_(std::move(file)) {
  std::string kept;
  if (resume_step > 0)
    kept = lines_until(fs::exists(file_) ? read_file(file_) : std::string(), resume_step,
                       owes_evaluation, file_.string());
  replace_file(file_, kept);
  const fs::path folder = file_.parent_path() / "tensorboard";
  if (resume_step == 0) remove_event_files(folder);
  // Values of the checkpoint's own step stay, as they do above.
  if (tensorboard) events_.emplace(folder, resume_step > 0 ? resume_step + 1 : 0);
}

void MetricsFile::write(const Json& line) const {
  append_file(file_, with_finite_numbers(line).dump() + "\n");
  if (!events_) return;
  std::vector<Scalar> scalars;
  for (const Tag& t : kTags) {
    if (line.get("type")->string() != t.type) continue;
    if (const Json* value = line.get_set(t.key)) scalars.push_back({t.tag, value->number()});
  }
  if (!scalars.empty()) events_->write(line.get("step")->integer(), scalars);
}

std::vector<std::string> whole_lines(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t end; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1))
    lines.emplace_back(text.substr(0, end));
  return lines;
}

Json parse_metrics_line(std::string line, const std::string& where) {
  // These lines hold no text of a user's, so such a word can only be a number.
  for (const std::string_view word : {"-Infinity", "Infinity", "NaN"})
    for (size_t at; (at = line.find(word)) != std::string::npos;)
      line.replace(at, word.size(), "null");
  return parse_json(line, where);
}

std::string gib_text(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / 0x1p30);
  return text;
}

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(seconds));
  char text[32];
  if (s >= 3600) {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  } else {
    std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
  }
  return text;
}

std::optional<double> LossWatch::exceeded(double loss) {
  constexpr size_t kFewest = 20, kMost = 100;
  std::optional<double> median;
  if (recent_.size() >= kFewest) {
    std::vector<double> sorted(recent_.begin(), recent_.end());
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::ranges::nth_element(sorted, middle);
    const bool is_high = loss > 10 * *middle;
    if (is_high && !was_high_) median = *middle;
    was_high_ = is_high;
  }
  recent_.push_back(loss);
  if (recent_.size() > kMost) recent_.pop_front();
  return median;
}

ProgressLine::ProgressLine() : is_terminal_(isatty(STDERR_FILENO) == 1) {}

void ProgressLine::show(const Progress& p) {
  char text[160];
  std::snprintf(
      text, sizeof text, "step %ld/%s%ld  loss %.4f  lr %.2e  %.0f tok/s  %.2f GiB  left %s",
      p.step, p.is_estimate ? "~" : "", p.num_steps, p.loss, p.learning_rate, p.tokens_per_second,
      static_cast<double>(p.memory_bytes) / 0x1p30, duration_text(p.seconds_left).c_str());
  if (!is_terminal_) {
    log_info(text);
    return;
  }
  constexpr int kWidth = 24;
  const auto filled = static_cast<int>(kWidth * p.step / std::max<int64_t>(1, p.num_steps));
  std::string bar(static_cast<size_t>(filled), '=');
  bar.resize(kWidth, ' ');
  std::fprintf(stderr, "\r[%s] %s\x1b[K", bar.c_str(), text);
  std::fflush(stderr);
  is_open_ = true;
}

void ProgressLine::pause() {
  if (is_open_) std::fputc('\n', stderr);
  is_open_ = false;
}

}  // namespace ft
