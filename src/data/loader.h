// The steps of a run in order, prepared ahead in a thread of its own: the batches of the next
// steps, then the window after this one, then a look at every row of the data, so that what is
// wrong with one is known long before its turn. What a step holds never depends on time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "data/window.h"

namespace ft {

/// Where a run stands in its data: what a later process needs to go on.
struct LoaderPosition {
  int64_t epoch = 0, window = 0, step = 0;  ///< the next step is this one of the window
  double epochs_done = 0;
  int64_t steps_per_epoch = 0;  ///< see Loader::steps_per_epoch(); 0: not known yet
  DataCounts counts;            ///< of the first epoch's windows before this one, and this one
};

struct LoadedStep {
  std::vector<Batch> batches;
  LoaderPosition after;
  bool is_last = false;  ///< the data of the last epoch ends with it
};

class Loader {
 public:
  /// Prepares the window of `start`. Error (input) as make_dataset(). What `context` and `config`
  /// refer to lives as long as the loader.
  Loader(Rows rows, const DataContext& context, const RunConfig& config,
         const LoaderPosition& start = {}, uint64_t window_bytes = kWindowBytes);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// As given, with what was found out at the begin of a run.
  const LoaderPosition& start() const { return start_; }

  // Before begin(), of the window of `start`:
  const Window& window() const { return *window_; }
  const DataCounts& counts() const { return counts_; }
  /// A figure of it as that of all data, about: see WindowCut.
  int64_t estimate(int64_t of_window) { return cut_.estimate(of_window); }

  const std::string& format() const { return format_; }
  int64_t num_windows() const { return num_windows_; }
  /// With several windows an estimate, from the run's first one.
  int64_t steps_per_epoch() const { return start_.steps_per_epoch; }
  int64_t num_steps() const { return ft::num_steps(config_, steps_per_epoch()); }

  /// Starts the threads.
  void begin();
  /// The next step; nullopt behind the last one. Throws what the threads met: at the step where the
  /// window would begin that cannot be made, or as soon as a bad row is found by looking ahead.
  std::optional<LoadedStep> next();

 private:
  struct Place {
    int64_t epoch, window;
  };
  Place after(const LoaderPosition& at) const;
  /// Makes window_ that of `place`, with counts_. Not `is_part`: data that is no use as a whole is
  /// refused.
  void prepare(Place place, bool is_part, const std::function<void()>& before_row);

  // In the thread that prepares:
  void run();
  void run_windows();
  /// Prepares the next window that has a step, handing over steps of `window` meanwhile, up to its
  /// last. `next` begins as `at` and becomes the begin of that window, or the end of the run.
  void prepare_after(const Window& window, LoaderPosition& at, LoaderPosition& next);
  LoadedStep make_step(const Window& window, LoaderPosition& at) const;
  /// False: enough steps are ready.
  bool has_room();
  void wait_for_room();
  void put(LoadedStep step);
  // In the thread that looks ahead:
  void check_rows();

  /// Throws Stopped when the loader is going away. With mutex_ held.
  void check_stopped() const;

  const RunConfig& config_;
  const DataContext context_;
  WindowCut cut_;
  const int64_t num_windows_;
  LoaderPosition start_;
  std::string format_;
  std::optional<Window> window_;  ///< the newest
  DataCounts counts_;             ///< its

  std::mutex mutex_;  ///< guards what follows
  std::condition_variable changed_;
  std::deque<LoadedStep> ready_;
  std::exception_ptr error_;    ///< met behind the steps in ready_
  std::exception_ptr bad_row_;  ///< met by looking ahead
  bool is_done_ = false, is_stopping_ = false;

  std::thread preparing_, checking_;
};

}  // namespace ft
