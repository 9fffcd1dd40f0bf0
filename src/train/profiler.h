// train.profile_steps: where the time of steps 2 to N + 1 of this start of a run goes (the first
// one warms up), as profile.txt and profile.json in output_dir.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "kernels/profile.h"

namespace ft {

class StepProfiler {
 public:
  StepProfiler(int64_t steps, at::Device device, std::filesystem::path folder);

  void begin_step();
  void end_step();
  /// Writes the files where the run ends before all steps were seen.
  void finish();

 private:
  /// Takes over what was seen of the last step.
  void collect();
  void write();

  int64_t wanted_, step_ = 0, profiled_ = 0;  ///< step_: the one that runs, from 1
  at::Device device_;
  std::filesystem::path folder_;
  std::optional<Profile> profile_;
  std::optional<ProfileScope> scope_;
  std::vector<ProfileEvent> events_;
  double offset_ = 0;  ///< where the next step begins in the trace, which has no gaps between steps
};

}  // namespace ft
