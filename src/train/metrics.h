// metrics.jsonl and the line on the screen.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "base/json.h"

namespace ft {

/// Appends one JSON object a line. On resume, lines after the checkpoint's step are dropped first.
class MetricsFile {
 public:
  MetricsFile(std::filesystem::path file, int64_t resume_step);
  void write(const Json& line) const;

 private:
  std::filesystem::path file_;
};

/// What the progress line shows.
struct Progress {
  int64_t step = 0, num_steps = 0;
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

/// `1:02:03` or `4:05`.
std::string duration_text(double seconds);

}  // namespace ft
