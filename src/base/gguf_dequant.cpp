// Every product below is exact in float32 (11-bit scale x at most 8-bit sub-scale x at most 6-bit
// weight fits 24 bits), so there is one rounding at most, in the final addition. That is why the
// result does not depend on the compiler fusing a multiplication with an addition.
#include "base/gguf_dequant.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace ft {
namespace {

constexpr GgmlFormat kFormats[] = {
    {GgmlType::kF32, "F32", 1, 4},       {GgmlType::kF16, "F16", 1, 2},
    {GgmlType::kBF16, "BF16", 1, 2},     {GgmlType::kQ4_0, "Q4_0", 32, 18},
    {GgmlType::kQ4_1, "Q4_1", 32, 20},   {GgmlType::kQ5_0, "Q5_0", 32, 22},
    {GgmlType::kQ5_1, "Q5_1", 32, 24},   {GgmlType::kQ8_0, "Q8_0", 32, 34},
    {GgmlType::kQ4_K, "Q4_K", 256, 144}, {GgmlType::kQ5_K, "Q5_K", 256, 176},
    {GgmlType::kQ6_K, "Q6_K", 256, 210},
};

struct OtherType {
  uint32_t number;
  std::string_view name;
};
constexpr OtherType kNotRead[] = {
    {9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"},
    {24, "I8"},      {25, "I16"},   {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},
    {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"},
};

constexpr size_t kSmall = 32, kSuper = 256;

uint8_t u8(const std::byte* p) {
  return static_cast<uint8_t>(*p);
}

float half_at(const std::byte* p) {
  return half_to_float(static_cast<uint16_t>(u8(p) | u8(p + 1) << 8));
}

/// Weight i of a 32-block of nibbles: the low halves are weights 0-15, the high ones 16-31.
int nibble(const std::byte* q, size_t i) {
  return i < 16 ? u8(q + i) & 15 : u8(q + i - 16) >> 4;
}

/// Bit i of the 32 fifth bits in front of the nibbles of Q5_0 and Q5_1, as 0 or 16.
int fifth_bit(const std::byte* bits, size_t i) {
  return (u8(bits + i / 8) >> (i % 8) & 1) << 4;
}

void q4_0(const std::byte* b, float* out) {
  const float d = half_at(b);
  for (size_t i = 0; i < kSmall; ++i) out[i] = d * static_cast<float>(nibble(b + 2, i) - 8);
}

void q4_1(const std::byte* b, float* out) {
  const float d = half_at(b), low = half_at(b + 2);
  for (size_t i = 0; i < kSmall; ++i) out[i] = d * static_cast<float>(nibble(b + 4, i)) + low;
}

void q5_0(const std::byte* b, float* out) {
  const float d = half_at(b);
  for (size_t i = 0; i < kSmall; ++i)
    out[i] = d * static_cast<float>((nibble(b + 6, i) | fifth_bit(b + 2, i)) - 16);
}

void q5_1(const std::byte* b, float* out) {
  const float d = half_at(b), low = half_at(b + 2);
  for (size_t i = 0; i < kSmall; ++i)
    out[i] = d * static_cast<float>(nibble(b + 8, i) | fifth_bit(b + 4, i)) + low;
}

void q8_0(const std::byte* b, float* out) {
  const float d = half_at(b);
  for (size_t i = 0; i < kSmall; ++i)
    out[i] = static_cast<float>(static_cast<int8_t>(u8(b + 2 + i))) * d;
}

/// Scale and offset of the eight 32-groups of Q4_K and Q5_K, six bits each in 12 bytes: bytes 0-3
/// and 4-7 hold scales and offsets of groups 0-3, their top two bits belong to groups 4-7, whose
/// low nibbles are in bytes 8-11.
struct GroupScales {
  float scale[8], offset[8];

  explicit GroupScales(const std::byte* block) {
    const float d = half_at(block), low = half_at(block + 2);
    const std::byte* s = block + 4;
    for (size_t g = 0; g < 4; ++g) {
      scale[g] = d * static_cast<float>(u8(s + g) & 63);
      offset[g] = low * static_cast<float>(u8(s + 4 + g) & 63);
      scale[4 + g] = d * static_cast<float>((u8(s + 8 + g) & 15) | (u8(s + g) >> 2 & 48));
      offset[4 + g] = low * static_cast<float>(u8(s + 8 + g) >> 4 | (u8(s + 4 + g) >> 2 & 48));
    }
  }
};

/// Group g of Q4_K and Q5_K: groups 2k and 2k+1 share 32 bytes, low and high nibbles.
int group_nibble(const std::byte* q, size_t g, size_t i) {
  return u8(q + g / 2 * 32 + i) >> (g % 2 * 4) & 15;
}

void q4_k(const std::byte* b, float* out) {
  const GroupScales s(b);
  for (size_t g = 0; g < 8; ++g)
    for (size_t i = 0; i < 32; ++i)
      *out++ = s.scale[g] * static_cast<float>(group_nibble(b + 16, g, i)) - s.offset[g];
}

void q5_k(const std::byte* b, float* out) {
  const GroupScales s(b);
  for (size_t g = 0; g < 8; ++g)
    for (size_t i = 0; i < 32; ++i) {
      const int fifth = (u8(b + 16 + i) >> g & 1) << 4;
      *out++ = s.scale[g] * static_cast<float>(group_nibble(b + 48, g, i) | fifth) - s.offset[g];
    }
}

void q6_k(const std::byte* b, float* out) {
  const float d = half_at(b + 208);
  float scale[16];
  for (size_t s = 0; s < 16; ++s)
    scale[s] = d * static_cast<float>(static_cast<int8_t>(u8(b + 192 + s)));
  // Two halves of 128 weights; inside each, 64 bytes of nibbles serve four rows of 32 (two low, two
  // high) and 32 bytes hold the upper two bits of the same four rows.
  for (size_t v = 0; v < kSuper; ++v) {
    const size_t half = v / 128, row = v % 128 / 32, i = v % 32;
    const int low = u8(b + half * 64 + row % 2 * 32 + i) >> (row / 2 * 4) & 15;
    const int high = u8(b + 128 + half * 32 + i) >> (row * 2) & 3;
    out[v] = scale[v / 16] * static_cast<float>((low | high << 4) - 32);
  }
}

using BlockReader = void (*)(const std::byte*, float*);

BlockReader block_reader(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4_0:
      return q4_0;
    case GgmlType::kQ4_1:
      return q4_1;
    case GgmlType::kQ5_0:
      return q5_0;
    case GgmlType::kQ5_1:
      return q5_1;
    case GgmlType::kQ8_0:
      return q8_0;
    case GgmlType::kQ4_K:
      return q4_k;
    case GgmlType::kQ5_K:
      return q5_k;
    case GgmlType::kQ6_K:
      return q6_k;
    case GgmlType::kF32:
      return [](const std::byte* b, float* out) { std::memcpy(out, b, 4); };
    case GgmlType::kF16:
      return [](const std::byte* b, float* out) { *out = half_at(b); };
    case GgmlType::kBF16:
      return [](const std::byte* b, float* out) {
        *out = std::bit_cast<float>(static_cast<uint32_t>(u8(b)) << 16 |
                                    static_cast<uint32_t>(u8(b + 1)) << 24);
      };
  }
  FT_INVARIANT(!"a GgmlType without a reader");
  return nullptr;
}

}  // namespace

const GgmlFormat* find_ggml_format(uint32_t number) {
  for (const GgmlFormat& f : kFormats)
    if (static_cast<uint32_t>(f.type) == number) return &f;
  return nullptr;
}

const GgmlFormat& ggml_format(GgmlType type) {
  const GgmlFormat* found = find_ggml_format(static_cast<uint32_t>(type));
  FT_INVARIANT(found);
  return *found;
}

std::string ggml_type_name(uint32_t number) {
  if (const GgmlFormat* f = find_ggml_format(number)) return std::string(f->name);
  for (const OtherType& t : kNotRead)
    if (t.number == number) return std::string(t.name);
  return str("type ", number);
}

std::string ggml_type_names() {
  std::string names;
  for (const GgmlFormat& f : kFormats) names.append(names.empty() ? "" : ", ").append(f.name);
  return names;
}

void dequantize(GgmlType type, const std::byte* blocks, size_t num_blocks, float* out) {
  const GgmlFormat& format = ggml_format(type);
  const BlockReader read = block_reader(type);
  for (size_t b = 0; b < num_blocks; ++b)
    read(blocks + b * format.block_bytes, out + b * format.block_values);
}

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;  // biases 15 and 127
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 64);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace ft
