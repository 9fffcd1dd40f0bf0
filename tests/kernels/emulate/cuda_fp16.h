// float16 for the emulated launch: LibTorch's, which rounds to nearest even as the device does.
#pragma once

#include <c10/util/Half.h>

using __half = c10::Half;
inline float __half2float(__half v) {
  return v;
}
inline __half __float2half(float v) {
  return v;
}
