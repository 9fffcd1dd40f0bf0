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
};

class SaveRequests {
 public:
  SaveRequests();   ///< installs the handler; before there is anything to save it only takes note
  ~SaveRequests();  ///< puts the former one back
  SaveRequests(const SaveRequests&) = delete;
  SaveRequests& operator=(const SaveRequests&) = delete;
  /// Whether a checkpoint was asked for since the last call.
  static bool take();
};

}  // namespace ft
