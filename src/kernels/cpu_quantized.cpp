// The loops over 4-bit blocks of cpu_loops.h. A block's sixteen values are made once, and its codes
// look them up; for bfloat16 sixteen at a time, as two byte shuffles (the low and the high halves).
// Compiled without fused multiply-add: scales and values are rounded as bitsandbytes rounds them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/cpu_loops.h"
#include "kernels/launch.h"

#define FT_INLINE inline __attribute__((always_inline))

namespace ft::cpu {
namespace {

using Bytes = uint8_t __attribute__((vector_size(16)));

FT_INLINE float to_float(float v) {
  return v;
}
FT_INLINE float to_float(Bf16 v) {
  return std::bit_cast<float>(static_cast<uint32_t>(v.bits) << 16);
}

/// To nearest, ties to even. Neither NaN nor infinity come here but from a damaged file, and they
/// stay what they are where the upper half shows it.
FT_INLINE uint32_t round_bits(uint32_t bits, int dropped) {
  const uint32_t half = (1u << (dropped - 1)) - 1;
  return (bits + half + ((bits >> dropped) & 1)) & ~((1u << dropped) - 1);
}
FT_INLINE float through_bf16(float v) {
  return std::isfinite(v) ? std::bit_cast<float>(round_bits(std::bit_cast<uint32_t>(v), 16)) : v;
}
/// Through float16: ten bits after the point, steps of 2^-24 below 2^-14, nothing past 65504.
FT_INLINE float through_f16(float v) {
  const float size = std::abs(v);
  if (size < 0x1p-14f) return std::copysign((size + 0.5f) - 0.5f, v);
  const float nearest = std::bit_cast<float>(round_bits(std::bit_cast<uint32_t>(v), 13));
  return std::abs(nearest) > 65504.0f ? std::copysign(INFINITY, v) : nearest;
}

FT_INLINE void store(float* p, float v) {
  *p = v;
}
FT_INLINE void store(Bf16* p, float v) {
  p->bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(through_bf16(v)) >> 16);
}

FT_INLINE float scale_of(const PackedBlocks& p, int64_t block) {
  if (p.absmax) return p.absmax[block];
  return p.nested_map[p.absmax_codes[block]] * p.nested_absmax[block / p.nested_block_size] +
         p.nested_offset;
}

/// The sixteen values of a block.
template <typename T>
FT_INLINE void block_values(const PackedBlocks& p, float scale, T* values) {
  for (int i = 0; i < 16; ++i) {
    const float v = p.code_map[i] * scale;
    store(&values[i], p.rounding == Rounding::kBFloat16  ? through_bf16(v)
                      : p.rounding == Rounding::kFloat16 ? through_f16(v)
                                                         : v);
  }
}

template <typename T>
FT_INLINE void look_up(const T* values, const uint8_t* codes, int64_t count, T* y) {
  for (int64_t i = 0; i < count / 2; ++i) {
    y[2 * i] = values[codes[i] >> 4];
    y[2 * i + 1] = values[codes[i] & 15];
  }
  if (count % 2) y[count - 1] = values[codes[count / 2] >> 4];
}

/// 32 elements from 16 bytes.
FT_INLINE void look_up_32(Bytes low, Bytes high, const uint8_t* codes, Bf16* y) {
  const Bytes first_halves = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
  const Bytes last_halves = first_halves + 8;
  Bytes packed;
  std::memcpy(&packed, codes, sizeof packed);
  const Bytes even = packed >> 4, odd = packed & 15;
  const Bytes in_order[2] = {__builtin_shuffle(even, odd, first_halves),
                             __builtin_shuffle(even, odd, last_halves)};
  for (int i = 0; i < 2; ++i) {
    const Bytes l = __builtin_shuffle(low, in_order[i]), h = __builtin_shuffle(high, in_order[i]);
    const Bytes out[2] = {__builtin_shuffle(l, h, first_halves),
                          __builtin_shuffle(l, h, last_halves)};
    std::memcpy(y + 16 * i, out, sizeof out);
  }
}

FT_INLINE void look_up(const Bf16* values, const uint8_t* codes, int64_t count, Bf16* y) {
  Bytes low, high;
  for (int i = 0; i < 16; ++i) {
    low[i] = static_cast<uint8_t>(values[i].bits & 255);
    high[i] = static_cast<uint8_t>(values[i].bits >> 8);
  }
  int64_t done = 0;
  for (; done + 32 <= count; done += 32) look_up_32(low, high, codes + done / 2, y + done);
  look_up<Bf16>(values, codes + done / 2, count - done, y + done);
}

template <typename T>
FT_INLINE void dequantize_body(RowRange r, const PackedBlocks& p, T* y) {
  for (int64_t block = r.begin; block < r.end; ++block) {
    T values[16];
    block_values(p, scale_of(p, block), values);
    const int64_t begin = block * p.block_size;
    look_up(values, p.codes + begin / 2, std::min(p.block_size, p.count - begin), y + begin);
  }
}

/// How many limits lie below x: its place among the values.
FT_INLINE int32_t place_of(float x, const CodeLimits& limits) {
  int32_t place = 0;
#pragma GCC unroll 15
  for (int k = 0; k < 15; ++k) place += limits.limit[static_cast<size_t>(k)] < x ? 1 : 0;
  return place;
}

/// The codes of `count` weights. As in bitsandbytes a whole block is multiplied by the inverse of
/// its scale, and a last one that is not whole divided by it.
template <typename T>
FT_INLINE void quantize_block(const T* w, int64_t count, bool is_whole, const CodeLimits& limits,
                              uint8_t* codes, float* absmax) {
  constexpr float kSmallest = 1e-38f;
  constexpr int64_t kChunk = 32;  // divides every block size
  float most = 0;
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(to_float(w[i])));
  const float divisor = std::max(most, kSmallest), inverse = 1.0f / divisor;
  *absmax = is_whole ? most : divisor;
  int32_t places[kChunk] = {};
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t size = std::min(kChunk, count - begin);
    if (is_whole) {
#pragma omp simd
      for (int64_t i = 0; i < kChunk; ++i)
        places[i] = place_of(to_float(w[begin + i]) * inverse, limits);
    } else {
      for (int64_t i = 0; i < size; ++i)
        places[i] = place_of(to_float(w[begin + i]) / divisor, limits);
      if (size % 2) places[size] = place_of(0.0f, limits);  // what fills up the last byte
    }
    for (int64_t i = 0; i < size; i += 2)
      codes[(begin + i) / 2] =
          static_cast<uint8_t>(limits.order[static_cast<size_t>(places[i])] << 4 |
                               limits.order[static_cast<size_t>(places[i + 1])]);
  }
}

template <typename T>
FT_INLINE void quantize_body(RowRange r, const T* w, int64_t count, const CodeLimits& limits,
                             uint8_t* codes, float* absmax) {
  for (int64_t block = r.begin; block < r.end; ++block) {
    const int64_t begin = block * r.width, size = std::min(r.width, count - begin);
    quantize_block(w + begin, size, size == r.width, limits, codes + begin / 2, absmax + block);
  }
}

}  // namespace

#define FT_LOOPS(T)                                                                              \
  FT_CLONES static void dequantize_##T(RowRange r, const PackedBlocks& p, T* y) {                \
    dequantize_body(r, p, y);                                                                    \
  }                                                                                              \
  template <>                                                                                    \
  void dequantize(RowRange r, const PackedBlocks& p, T* y) {                                     \
    dequantize_##T(r, p, y);                                                                     \
  }                                                                                              \
  FT_CLONES static void quantize_##T(RowRange r, const T* w, int64_t count,                      \
                                     const CodeLimits& limits, uint8_t* codes, float* absmax) {  \
    quantize_body(r, w, count, limits, codes, absmax);                                           \
  }                                                                                              \
  template <>                                                                                    \
  void quantize(RowRange r, const T* w, int64_t count, const CodeLimits& limits, uint8_t* codes, \
                float* absmax) {                                                                 \
    quantize_##T(r, w, count, limits, codes, absmax);                                            \
  }
FT_LOOPS(float)
FT_LOOPS(Bf16)
#undef FT_LOOPS

}  // namespace ft::cpu
