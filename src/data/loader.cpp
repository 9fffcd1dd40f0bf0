// Between two rows of the window it prepares, the thread hands over steps of the one before, so
// that training waits for neither. Looking ahead is reading alone (syntax and keys, no tokenising)
// and has the lowest priority.
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

/// What f() failed with, null when with nothing; nullopt when the loader is going away.
std::optional<std::exception_ptr> failure_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Stopped&) {
    return std::nullopt;
  } catch (...) {
    return std::current_exception();
  }
  return std::exception_ptr();
}

}  // namespace

Loader::Loader(Rows rows, const DataContext& context, const RunConfig& config,
               const LoaderPosition& start, uint64_t window_bytes)
    : config_(config),
      context_(context),
      cut_(std::move(rows), config, window_bytes),
      num_windows_(cut_.num_windows()),
      start_(start) {
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
  for (std::thread* thread : {&preparing_, &checking_})
    if (thread->joinable()) thread->join();
}

void Loader::begin() {
  FT_INVARIANT(!preparing_.joinable());
  preparing_ = quiet_thread([this] { run(); });
  // A single window has been through all rows.
  if (num_windows_ > 1) checking_ = quiet_thread([this] { check_rows(); });
}

std::optional<LoadedStep> Loader::next() {
  FT_INVARIANT(preparing_.joinable());
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
  const auto error = failure_of([this] { run_windows(); });
  if (!error) return;
  {
    const std::lock_guard lock(mutex_);
    error_ = *error;
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

void Loader::check_stopped() const {
  if (is_stopping_) throw Stopped{};
}

bool Loader::has_room() {
  const std::lock_guard lock(mutex_);
  check_stopped();
  return ready_.size() < kStepsAhead;
}

void Loader::wait_for_room() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return is_stopping_ || ready_.size() < kStepsAhead; });
  check_stopped();
}

void Loader::check_rows() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 19);
  const Rows& rows = cut_.all();
  const auto error = failure_of([&] {
    for (size_t i = 0; i < rows.size(); ++i) {
      check_row(rows[i], format_, context_);
      const std::lock_guard lock(mutex_);
      check_stopped();
    }
  });
  if (!error || !*error) return;
  {
    const std::lock_guard lock(mutex_);
    bad_row_ = *error;
  }
  changed_.notify_all();
}

void Loader::put(LoadedStep step) {
  {
    const std::lock_guard lock(mutex_);
    ready_.push_back(std::move(step));
  }
  changed_.notify_all();
}

}  // namespace ft
