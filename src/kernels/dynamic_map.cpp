#include "kernels/dynamic_map.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace ft {
namespace {

float power_of_ten(int exponent) {
  return static_cast<float>(std::pow(10.0, exponent));
}

/// Point i of `count` that divide [0.1, 1] evenly, in float32 and from the nearer end, with one
/// rounding each, as torch.linspace does it.
float division(int i, int count) {
  const float step = (1.0f - 0.1f) / static_cast<float>(count - 1);
  return i < count / 2 ? std::fma(step, static_cast<float>(i), 0.1f)
                       : std::fma(-step, static_cast<float>(count - 1 - i), 1.0f);
}

/// The lower edge of a bin of magnitudes; bin 0 begins at 0.
float edge(int32_t bin) {
  return bin == 0 ? 0.0f
                  : std::bit_cast<float>(static_cast<uint32_t>(bin + DynamicMap::kFirstBin) << 16);
}

DynamicMap make_map(bool is_signed) {
  constexpr int kDecades = 7;
  DynamicMap map{};
  int n = 0;
  for (int decade = 0; decade < kDecades; ++decade) {
    const int items = 1 << (is_signed ? decade : decade + 1);
    for (int i = 0; i < items; ++i) {
      const float mean = (division(i, items + 1) + division(i + 1, items + 1)) / 2;
      const float value = power_of_ten(decade - kDecades + 1) * mean;
      map.values[n++] = value;
      if (is_signed) map.values[n++] = -value;
    }
  }
  map.values[n++] = 0;
  map.values[n] = 1;
  std::sort(std::begin(map.values), std::end(map.values));
  for (int i = 0; i < 255; ++i) map.middles[i] = (map.values[i] + map.values[i + 1]) / 2;
  map.middles[255] = std::numeric_limits<float>::infinity();
  const float *begin = map.middles, *end = map.middles + 255;
  for (int32_t bin = 0; bin < DynamicMap::kBins; ++bin) {
    map.lowest[bin] = static_cast<int32_t>(std::lower_bound(begin, end, edge(bin)) - begin);
    map.lowest[bin + DynamicMap::kBins] =
        static_cast<int32_t>(std::upper_bound(begin, end, -edge(bin + 1)) - begin);
  }
  return map;
}

}  // namespace

const DynamicMap& dynamic_map(bool is_signed) {
  static const DynamicMap with_sign = make_map(true), without = make_map(false);
  return is_signed ? with_sign : without;
}

}  // namespace ft
