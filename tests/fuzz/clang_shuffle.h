// GCC's byte shuffles, which clang does not have, for the fuzz preset: values, not speed.
#pragma once

#include <cstdint>

using FuzzBytes = uint8_t __attribute__((vector_size(16)));

inline FuzzBytes __builtin_shuffle(FuzzBytes table, FuzzBytes at) {
  FuzzBytes out = {};
  for (int i = 0; i < 16; ++i) out[i] = table[at[i] & 15];
  return out;
}

inline FuzzBytes __builtin_shuffle(FuzzBytes first, FuzzBytes second, FuzzBytes at) {
  FuzzBytes out = {};
  for (int i = 0; i < 16; ++i) out[i] = at[i] & 16 ? second[at[i] & 15] : first[at[i] & 15];
  return out;
}
