// One thread does all that is done ahead, the most urgent first. Between two rows of the window it
// prepares it hands over steps of the one before; when enough are ready it looks at rows that no
// window has come to yet. It has the lowest priority: threads that compute lose nothing to it, and
// when they wait for data it has their cores.
#include "data/loader.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "data/columns.h"

namespace ft {
namespace {

constexpr size_t kStepsAhead = 2;

/// The loader is going away.
struct Stopped {};

/// A thread that gets no signals: their handlers belong to the main one.
std::thread quiet_thread(const std::function<void()>& run) {
  sigset_t all, former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  std::thread thread(run);
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  return thread;
}

}  // namespace

Loader::Loader(Rows rows, const DataContext& context, const RunConfig& config,
               const LoaderPosition& start, uint64_t window_bytes)
    : config_(config),
      context_(context),
      cut_(std::move(rows), config, window_bytes),
      num_windows_(cut_.num_windows()),
      start_(start),
      rows_checked_(num_windows_ == 1 ? cut_.all().size() : 0) {
  const bool is_fresh = start_.steps_per_epoch == 0;
  if (is_fresh) check_columns(cut_.rows(0, 0), config.data);
  format_ = detect_format(cut_.all()[0], context_);
  prepare({start_.epoch, start_.window}, !is_fresh, [] {});
  if (!is_fresh) return;
  start_.counts = counts_;
  start_.steps_per_epoch = cut_.estimate(window_->num_steps());
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Loader::begin() {
  FT_INVARIANT(!thread_.joinable());
  thread_ = quiet_thread([this] { run(); });
}

std::optional<LoadedStep> Loader::next() {
  FT_INVARIANT(thread_.joinable());
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return bad_row_ || error_ || is_done_ || !ready_.empty(); });
  if (bad_row_) std::rethrow_exception(bad_row_);
  if (ready_.empty() && error_) std::rethrow_exception(error_);
  if (ready_.empty()) return std::nullopt;
  LoadedStep step = std::move(ready_.front());
  ready_.pop_front();
  lock.unlock();
  changed_.notify_all();
  return step;
}

Loader::Place Loader::after(const LoaderPosition& at) const {
  return at.window + 1 < num_windows_ ? Place{at.epoch, at.window + 1} : Place{at.epoch + 1, 0};
}

void Loader::prepare(Place place, bool is_part, const std::function<void()>& before_row) {
  if (num_windows_ > 1 || !window_) {
    window_.reset();
    Dataset data = make_dataset(cut_.rows(place.epoch, place.window), context_,
                                {.is_part = is_part, .format = format_, .before_row = before_row});
    counts_ = data.counts;
    window_.emplace(take_examples(data.documents), config_);
  }
  window_->shuffle(place.epoch * num_windows_ + place.window);
}

void Loader::run() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 19);
  std::exception_ptr error;
  try {
    run_windows();
  } catch (const Stopped&) {
    return;
  } catch (...) {
    error = std::current_exception();
  }
  {
    const std::lock_guard lock(mutex_);
    error_ = error;
    is_done_ = true;
  }
  changed_.notify_all();
}

void Loader::run_windows() {
  for (LoaderPosition at = start_; at.epoch < config_.train.epochs;) {
    const Window window = *window_;
    LoaderPosition next = at;
    std::exception_ptr error;
    try {
      prepare_after(window, at, next);
    } catch (const Error&) {
      error = std::current_exception();
    }
    while (at.step < window.num_steps()) {
      wait_for_room();
      LoadedStep step = make_step(window, at);
      if (at.step == window.num_steps()) {
        next.epochs_done = at.epochs_done;
        step.after = next;
        step.is_last = next.epoch >= config_.train.epochs;
      }
      put(std::move(step));
    }
    if (error) std::rethrow_exception(error);
    at = next;
  }
}

void Loader::prepare_after(const Window& window, LoaderPosition& at, LoaderPosition& next) {
  const auto serve = [&] {
    while (has_room() && at.step + 1 < window.num_steps()) put(make_step(window, at));
  };
  do {
    const Place place = after(next);
    next.epoch = place.epoch;
    next.window = place.window;
    next.step = 0;
    if (place.epoch >= config_.train.epochs) return;
    prepare(place, true, serve);
    if (place.epoch == 0) next.counts.add(counts_);
  } while (window_->num_steps() == 0);
}

LoadedStep Loader::make_step(const Window& window, LoaderPosition& at) const {
  LoadedStep step{window.step(at.step), {}, false};
  ++at.step;
  const auto steps = static_cast<double>(window.num_steps());
  const auto windows = static_cast<double>(num_windows_);
  const auto number = static_cast<double>(at.epoch * num_windows_ + at.window);
  at.epochs_done = (number * steps + static_cast<double>(at.step)) / (windows * steps);
  step.after = at;
  return step;
}

bool Loader::has_room() {
  const std::lock_guard lock(mutex_);
  if (is_stopping_) throw Stopped{};
  return ready_.size() < kStepsAhead;
}

void Loader::wait_for_room() {
  while (!has_room()) {
    if (rows_checked_ < cut_.all().size()) {
      check_some_rows();
      continue;
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_stopping_ || ready_.size() < kStepsAhead; });
  }
}

void Loader::check_some_rows() {
  constexpr size_t kRows = 16;
  const Rows& rows = cut_.all();
  try {
    for (size_t i = 0; i < kRows && rows_checked_ < rows.size(); ++i)
      check_row(rows[rows_checked_++], format_, context_);
  } catch (const Error&) {
    rows_checked_ = rows.size();
    {
      const std::lock_guard lock(mutex_);
      bad_row_ = std::current_exception();
    }
    changed_.notify_all();
  }
}

void Loader::put(LoadedStep step) {
  {
    const std::lock_guard lock(mutex_);
    ready_.push_back(std::move(step));
  }
  changed_.notify_all();
}

}  // namespace ft
