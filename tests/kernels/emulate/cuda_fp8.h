// E4M3 for the emulated launch: LibTorch's, held to the largest number as the device does when
// asked.
#pragma once

#include <c10/util/Float8_e4m3fn.h>

#include <algorithm>

struct float2 {
  float x, y;
};
using __nv_fp8x2_storage_t = unsigned short;
enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };
enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };

/// The first number in the low byte. Only for the settings in use.
inline __nv_fp8x2_storage_t __nv_cvt_float2_to_fp8x2(float2 v, __nv_saturation_t,
                                                     __nv_fp8_interpretation_t) {
  const auto code = [](float f) {
    const float held = f != f ? f : std::clamp(f, -448.0f, 448.0f);
    return static_cast<unsigned>(c10::Float8_e4m3fn(held).x);
  };
  return static_cast<__nv_fp8x2_storage_t>(code(v.x) | code(v.y) << 8);
}
