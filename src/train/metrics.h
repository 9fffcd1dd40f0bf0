// metrics.jsonl, the same numbers as TensorBoard events, and the line on the screen.
#pragma once

#include <chrono>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/tfevents.h"

namespace ft {

/// Appends one JSON object a line and, when asked to, an event in tensorboard/ beside the file. On
/// resume, lines after the checkpoint's step are dropped first, and the evaluation of that step
/// when it comes again; from step 0 the event files go too.
class MetricsFile {
 public:
  MetricsFile(std::filesystem::path file, int64_t resume_step, bool tensorboard,
              bool owes_evaluation = false);
  void write(const Json& line) const;

 private:
  std::filesystem::path file_;
  std::optional<EventFile> events_;
};

/// The whole lines of a metrics file; one that was cut off at the end is left out.
std::vector<std::string> whole_lines(std::string_view text);

/// One line of it. What other programs append as Python does (NaN, infinities) comes back as null.
Json parse_metrics_line(std::string line, const std::string& where);

/// Finds losses that are out of line.
class LossWatch {
 public:
  /// The median of the 100 losses before this one (at least 20) when it is more than ten times as
  /// large and the one before was not.
  std::optional<double> exceeded(double loss);

 private:
  std::deque<double> recent_;
  bool was_high_ = false;
};

/// What the progress line shows.
struct Progress {
  int64_t step = 0, num_steps = 0;
  bool is_estimate = false;  ///< num_steps
  double loss = 0, learning_rate = 0, tokens_per_second = 0;
  int64_t memory_bytes = 0;
  double seconds_left = 0;
};

/// A live bar on a terminal, plain lines otherwise.
class ProgressLine {
 public:
  ProgressLine();
  void show(const Progress& progress);
  /// Ends the live bar, so that other lines can follow.
  void pause();

 private:
  bool is_terminal_;
  bool is_open_ = false;
};

/// `1.50 GiB`.
std::string gib_text(int64_t bytes);
/// `1:02:03` or `4:05`.
std::string duration_text(double seconds);

}  // namespace ft
