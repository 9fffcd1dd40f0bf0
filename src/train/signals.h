// SIGINT, SIGTERM and SIGHUP end a run after the current step and a complete checkpoint; a second
// SIGINT ends it at once.
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

}  // namespace ft
