// SIGINT, SIGTERM and SIGHUP end a run after the current step and a complete checkpoint; a second
// one ends it at once. SIGUSR1 asks for a checkpoint after the step and lets the run go on.
#pragma once

namespace ft {

class StopSignals {
 public:
  StopSignals();   ///< installs the handlers
  ~StopSignals();  ///< puts the former ones back
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  /// The signal that arrived, or 0.
  static int received();
  /// Whether a checkpoint was asked for since the last call.
  static bool take_save_request();
};

}  // namespace ft
