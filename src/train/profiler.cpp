#include "train/profiler.h"

#include <algorithm>
#include <map>

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "kernels/device.h"

namespace ft {
namespace {

/// For each event its place among the events' parents, -1 for a step. What another thread does is
/// part of the phase in which the first one waits for it.
std::vector<int64_t> parents_of(const std::vector<ProfileEvent>& events) {
  std::vector<int64_t> parents;
  std::map<int64_t, std::vector<int64_t>> open;  // per thread: scopes around what comes next
  const auto leave = [&](std::vector<int64_t>& stack, const ProfileEvent& next) {
    while (!stack.empty()) {
      const ProfileEvent& top = events[static_cast<size_t>(stack.back())];
      if (next.end <= top.end && next.begin <= top.end) break;
      stack.pop_back();
    }
  };
  for (const ProfileEvent& e : events) {
    std::vector<int64_t>& own = open[e.thread];
    leave(own, e);
    int64_t parent = own.empty() ? -1 : own.back();
    if (parent < 0 && e.thread != 0)
      for (const int64_t outer : open[0])
        if (events[static_cast<size_t>(outer)].is_phase) parent = outer;
    own.push_back(static_cast<int64_t>(parents.size()));
    parents.push_back(parent);
  }
  return parents;
}

struct Line {
  std::string name;
  int64_t calls = 0;
  double own = 0;  ///< microseconds
};

std::vector<Line> sum_up(const std::vector<ProfileEvent>& events) {
  const std::vector<int64_t> parents = parents_of(events);
  std::vector<double> own;
  for (const ProfileEvent& e : events) own.push_back(e.end - e.begin);
  for (size_t i = 0; i < events.size(); ++i)
    if (parents[i] >= 0) own[static_cast<size_t>(parents[i])] -= events[i].end - events[i].begin;
  std::map<std::string, Line> by_name;
  for (size_t i = 0; i < events.size(); ++i) {
    const std::string& name = events[i].name;
    Line& line = by_name[events[i].is_phase ? "(" + name + ", outside all others)" : name];
    ++line.calls;
    line.own += own[i];
  }
  std::vector<Line> lines;
  for (auto& [name, line] : by_name) {
    line.name = name;
    lines.push_back(line);
  }
  std::ranges::sort(lines, [](const Line& a, const Line& b) { return a.own > b.own; });
  return lines;
}

/// Time in each phase; `other` is the rest of the step.
std::vector<Line> phases_of(const std::vector<ProfileEvent>& events) {
  std::vector<Line> phases = {{"data"}, {"forward"}, {"backward"}, {"optimizer"}, {"other"}};
  for (const ProfileEvent& e : events) {
    if (!e.is_phase) continue;
    const double length = e.end - e.begin;
    if (e.name == "step") {
      phases.back().own += length;
      continue;
    }
    Line& phase = *std::ranges::find(phases, e.name, &Line::name);
    ++phase.calls;
    phase.own += length;
    phases.back().own -= length;
  }
  return phases;
}

std::string format(const char* form, auto... values) {
  char text[200];
  std::snprintf(text, sizeof text, form, values...);
  return text;
}

Json chrome_trace(const std::vector<ProfileEvent>& events) {
  Json::Array list;
  for (const ProfileEvent& e : events)
    list.push_back(Json::Object{{"name", e.name},
                                {"cat", e.is_phase ? "phase" : "operator"},
                                {"ph", "X"},
                                {"ts", e.begin},
                                {"dur", e.end - e.begin},
                                {"pid", 0},
                                {"tid", e.thread}});
  return Json::Object{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(list)}};
}

}  // namespace

StepProfiler::StepProfiler(int64_t steps, at::Device device, fs::path folder)
    : wanted_(steps), device_(device), folder_(std::move(folder)) {}

void StepProfiler::begin_step() {
  if (wanted_ == 0) return;
  collect();
  if (profiled_ == wanted_) return write();
  if (++step_ == 1) return;
  profile_.emplace(device_);
  scope_.emplace("step", true);
}

void StepProfiler::end_step() {
  scope_.reset();
  if (profile_) profile_->stop();
}

void StepProfiler::collect() {
  if (!profile_) return;
  std::vector<ProfileEvent> events = profile_->events();
  profile_.reset();
  for (ProfileEvent& e : events) {
    e.begin += offset_;
    e.end += offset_;
  }
  offset_ = events.front().end;  // of the step's scope
  events_.insert(events_.end(), events.begin(), events.end());
  ++profiled_;
}

void StepProfiler::finish() {
  if (wanted_ == 0) return;
  if (scope_) profile_.reset();  // of a step that did not come
  scope_.reset();
  collect();
  if (profiled_ < wanted_)
    log_warning("train.profile_steps: ", wanted_, " wanted, but only ", profiled_,
                " steps after the first one were there");
  if (profiled_ > 0) write();
}

void StepProfiler::write() {
  wanted_ = 0;
  const auto lines = sum_up(events_), phases = phases_of(events_);
  const auto steps = static_cast<double>(profiled_);
  double total = 0;
  for (const Line& phase : phases) total += phase.own;
  int width = 0;
  for (const Line& line : lines) width = std::max(width, static_cast<int>(line.name.size()));
  const auto row = [&](const Line& l) {
    return format("%-*s %10.1f %12.3f %7.1f %%", width, l.name.c_str(),
                  static_cast<double>(l.calls) / steps, l.own / steps / 1e3, 100 * l.own / total);
  };
  const auto head = [&](const char* name) {
    return format("\n%-*s %10s %12s %9s\n", width, name, "calls/step", "ms/step", "share");
  };
  std::string text = str("Steps 2 to ", profiled_ + 1, " on ", device_text(device_), ", ",
                         format("%.3f", total / steps / 1e3), " ms a step.\n");
  text += device_.is_cuda()
              ? "Times of the CUDA stream, by events before and after each call: what the device "
                "waits for the host between the two is in them.\n"
              : "Times of the calling thread on the host's clock.\n";
  text += "The clocks themselves cost about a microsecond a call: see the calls.\n";
  text += head("phase");
  for (const Line& phase : phases) text += row(phase) + "\n";
  text += head("operator or kernel, own time");
  for (const Line& line : lines) text += row(line) + "\n";
  replace_file(folder_ / "profile.json", chrome_trace(events_).dump());
  replace_file(folder_ / "profile.txt", text);
  log_info("profile    ", (folder_ / "profile.txt").string(), "; most of a step is in");
  for (size_t i = 0; i < std::min<size_t>(5, lines.size()); ++i)
    log_info("profile    ", row(lines[i]));
}

}  // namespace ft
