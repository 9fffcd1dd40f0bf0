#include "train/metrics.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"

namespace ft {
namespace {

/// The lines of an interrupted run up to `step`; a last line that was cut off is dropped.
std::string lines_until(const std::string& text, int64_t step, const std::string& where) {
  std::string kept;
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = text.substr(begin, end - begin);
    const auto at = get_int(parse_json(line, where), "step", where);
    if (at && *at <= step) kept += line + "\n";
  }
  return kept;
}

}  // namespace

MetricsFile::MetricsFile(fs::path file, int64_t resume_step) : file_(std::move(file)) {
  std::string kept;
  if (resume_step > 0 && fs::exists(file_))
    kept = lines_until(read_file(file_), resume_step, file_.string());
  write_file(file_, kept);
}

void MetricsFile::write(const Json& line) const {
  append_file(file_, line.dump() + "\n");
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

ProgressLine::ProgressLine() : is_terminal_(isatty(STDERR_FILENO) == 1) {}

void ProgressLine::show(const Progress& p) {
  char text[160];
  std::snprintf(
      text, sizeof text, "step %ld/%ld  loss %.4f  lr %.2e  %.0f tok/s  %.2f GiB  left %s", p.step,
      p.num_steps, p.loss, p.learning_rate, p.tokens_per_second,
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
