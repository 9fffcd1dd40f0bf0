// The recording of scopes: threads, what is outside of a profile, the clock of a GPU.
#include "kernels/profile.h"

#include <gtest/gtest.h>

#include <thread>

#include "kernels/device.h"

namespace ft {
namespace {

/// A product within a scope of its own, on the calling thread.
void work(const Tensor& x) {
  const ProfileScope scope("work");
  x.mm(x);
}

const ProfileEvent& only(const std::vector<ProfileEvent>& events, const char* name,
                         int64_t thread = 0) {
  const ProfileEvent* found = nullptr;
  for (const ProfileEvent& e : events)
    if (e.name == name && e.thread == thread) {
      EXPECT_EQ(found, nullptr) << "twice: " << name;
      found = &e;
    }
  if (!found) throw std::runtime_error(std::string("not there: ") + name);
  return *found;
}

void expect_within(const ProfileEvent& inner, const ProfileEvent& outer) {
  EXPECT_GE(inner.begin, outer.begin) << inner.name;
  EXPECT_LE(inner.end, outer.end) << inner.name;
  EXPECT_GT(inner.end, inner.begin) << inner.name;
}

void check_nesting(at::Device device) {
  const Tensor x = ops::full({256, 256}, 1, at::kFloat).to(device);
  work(x);  // before: not taken down
  Profile profile(device);
  {
    const ProfileScope step("step", true);
    work(x);
    std::thread([&] { work(x); }).join();
  }
  profile.stop();
  work(x);
  const auto events = profile.events();
  EXPECT_EQ(events.front().name, "step");
  EXPECT_TRUE(events.front().is_phase);
  for (const int64_t thread : {0, 1}) {
    expect_within(only(events, "work", thread), events.front());
    expect_within(only(events, "aten::mm", thread), only(events, "work", thread));
  }
  EXPECT_LE(only(events, "work", 0).end, only(events, "work", 1).begin);
}

TEST(Profile, ScopesOfAllThreadsNest) {
  check_nesting(at::kCPU);
}

TEST(Profile, CudaTimesAreTheStreams) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  check_nesting(at::Device(at::kCUDA, 0));
}

TEST(Profile, TheNextOneBeginsAnew) {
  for (int i = 0; i < 2; ++i) {
    Profile profile(at::kCPU);
    work(ops::full({4, 4}, 1, at::kFloat));
    profile.stop();
    EXPECT_LT(only(profile.events(), "work").begin, 1e6);
  }
}

}  // namespace
}  // namespace ft
