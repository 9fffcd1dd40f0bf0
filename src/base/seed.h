// Every random number of a run traces to seed(run, step, stream). Counter based: no state to save.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace ft {

/// What a random stream is for. The values are part of a run's identity: never renumber.
enum class Stream : uint64_t {
  kShuffle = 1,
  kSplit = 2,
  kInit = 3,
  kDropout = 4,
  kSampling = 5,
  kRounding = 6,
  kNoise = 7,
  kWindows = 8
};

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014). constexpr: CUDA kernels call it too.
constexpr uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

inline uint64_t seed(uint64_t run, uint64_t step, Stream stream) {
  return mix64(mix64(mix64(run) ^ step) ^ static_cast<uint64_t>(stream));
}

/// A small sequential generator for host-side draws.
class Rng {
 public:
  explicit Rng(uint64_t seed_value) : state_(seed_value) {}
  uint64_t next() { return mix64(state_++); }
  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  /// Uniform in [0, n).
  uint64_t below(uint64_t n) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * n) >> 64);
  }

  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  uint64_t state_;
};

}  // namespace ft
