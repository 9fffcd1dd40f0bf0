#include "kernels/profile.h"

#include <ATen/record_function.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <mutex>
#include <string_view>

#include "base/error.h"

namespace ft {
namespace {

using Clock = std::chrono::steady_clock;

struct Recorded {
  ProfileEvent event;
  std::optional<c10::Event> begin, end;  ///< on a GPU
};

/// The open profile: threads append to it under the lock, and the one that entered a scope is the
/// only one to touch its entry until finish().
struct Recording {
  std::mutex lock;
  std::deque<Recorded> entries;
  std::optional<at::Device> gpu;
  Clock::time_point start;
  std::optional<c10::Event> gpu_start;
  int64_t num_threads = 0;
};
std::unique_ptr<Recording> recording;
uint64_t num_recordings = 0;

double now() {
  return std::chrono::duration<double, std::micro>(Clock::now() - recording->start).count();
}

void mark(std::optional<c10::Event>& event) {
  const c10::impl::VirtualGuardImpl guard(recording->gpu->type());
  event.emplace(recording->gpu->type(), c10::EventFlag::BACKEND_DEFAULT);  // with its time
  event->record(guard.getStream(*recording->gpu));
}

/// Under the lock: this thread's number in the open recording.
int64_t thread_number() {
  thread_local uint64_t of_recording = 0;
  thread_local int64_t number = 0;
  if (of_recording != num_recordings) {
    of_recording = num_recordings;
    number = recording->num_threads++;
  }
  return number;
}

int64_t begin_event(const char* name, bool is_phase) {
  const std::lock_guard guard(recording->lock);
  Recorded& r = recording->entries.emplace_back();
  r.event = {name, is_phase, thread_number(), 0, -1};
  if (recording->gpu) mark(r.begin);
  r.event.begin = now();
  return static_cast<int64_t>(recording->entries.size()) - 1;
}

void end_event(int64_t place) {
  if (!recording) return;
  const double end = now();
  const std::lock_guard guard(recording->lock);
  Recorded& r = recording->entries[static_cast<size_t>(place)];
  r.event.end = end;
  if (recording->gpu) mark(r.end);
}

struct Running : at::ObserverContext {
  explicit Running(int64_t p) : place(p) {}
  int64_t place;
};

std::unique_ptr<at::ObserverContext> enter_operator(const at::RecordFunction& f) {
  // The engine's frames around the ops of the backward pass: their time is that pass's own.
  if (std::string_view(f.name()).starts_with("autograd::")) return nullptr;
  return std::make_unique<Running>(begin_event(f.name(), false));
}
void leave_operator(const at::RecordFunction&, at::ObserverContext* context) {
  if (context) end_event(static_cast<const Running*>(context)->place);
}

}  // namespace

Profile::Profile(at::Device device) {
  FT_INVARIANT(!recording);
  recording = std::make_unique<Recording>();
  ++num_recordings;
  thread_number();
  recording->start = Clock::now();
  if (device.is_cuda()) {
    recording->gpu = device;
    mark(recording->gpu_start);
  }
  ProfileScope::is_on = true;
  observer_ = at::addGlobalCallback(at::RecordFunctionCallback(enter_operator, leave_operator)
                                        .scopes({at::RecordScope::FUNCTION}));
}

Profile::~Profile() {
  stop();
  recording.reset();
}

void Profile::stop() {
  if (!runs_) return;
  runs_ = false;
  ProfileScope::is_on = false;
  at::removeCallback(observer_);
}

std::vector<ProfileEvent> Profile::events() {
  FT_INVARIANT(!runs_);
  std::vector<ProfileEvent> all;
  for (Recorded& r : recording->entries) {
    if (r.event.end < 0) continue;  // left by an error, or still open
    if (r.begin) {
      r.end->synchronize();
      r.event.begin = 1000 * recording->gpu_start->elapsedTime(*r.begin);
      r.event.end = 1000 * recording->gpu_start->elapsedTime(*r.end);
    }
    all.push_back(std::move(r.event));
  }
  std::ranges::stable_sort(all, [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return all;
}

void ProfileScope::enter(const char* name, bool is_phase) {
  place_ = begin_event(name, is_phase);
}

void ProfileScope::leave() const {
  end_event(place_);
}

}  // namespace ft
