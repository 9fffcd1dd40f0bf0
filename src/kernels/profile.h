// Where the time of some steps goes: LibTorch's operators by its observer, ours and the phases of a
// step by a ProfileScope around them. On a GPU the times are the stream's, between events recorded
// before and after what a scope launches; on the CPU those of the calling thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace ft {

/// A scope that was left, in microseconds from the start of the profile.
struct ProfileEvent {
  std::string name;
  bool is_phase = false;
  int64_t thread = 0;  ///< 0 is the one that made the profile
  double begin = 0, end = 0;
};

/// Takes down all scopes of all threads while it lives; one at a time, made and ended where no
/// other thread is in a scope.
class Profile {
 public:
  explicit Profile(at::Device device);
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  void stop();
  /// After stop(): by begin, an outer scope before those within it. On a GPU it waits for the
  /// stream.
  std::vector<ProfileEvent> events();

 private:
  uint64_t observer_;
  bool runs_ = true;
};

/// Costs one branch when no profile is open. The name has to live as long as the program.
class ProfileScope {
 public:
  explicit ProfileScope(const char* name, bool is_phase = false) {
    if (is_on.load(std::memory_order_relaxed)) enter(name, is_phase);
  }
  ~ProfileScope() {
    if (place_ >= 0) leave();
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  friend class Profile;
  void enter(const char* name, bool is_phase);
  void leave() const;

  static inline std::atomic<bool> is_on = false;
  int64_t place_ = -1;  ///< among the profile's events
};

}  // namespace ft
