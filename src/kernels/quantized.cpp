#include "kernels/quantized.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "kernels/dispatch.h"
#include "kernels/dynamic_map.h"
#include "kernels/mode.h"

namespace ft {
namespace {

constexpr int64_t kNestedBlock = 256;

/// QLoRA's quantiles of a normal distribution, and the 4-bit floats (one sign, two exponent, one
/// mantissa bit) over their largest, 12. In the order of the codes.
constexpr std::array<float, 16> kNf4 = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};
constexpr std::array<float, 16> kFp4 = {0.0f / 12,  0.0625f / 12,  8.0f / 12,  12.0f / 12,
                                        4.0f / 12,  6.0f / 12,     2.0f / 12,  3.0f / 12,
                                        0.0f / 12,  -0.0625f / 12, -8.0f / 12, -12.0f / 12,
                                        -4.0f / 12, -6.0f / 12,    -2.0f / 12, -3.0f / 12};

/// Limits between the values in rising order, and which code each place in that order has.
cpu::CodeLimits code_limits(const std::array<float, 16>& values) {
  std::array<uint8_t, 16> order{};
  std::iota(order.begin(), order.end(), uint8_t{0});
  std::ranges::stable_sort(order, {}, [&](uint8_t code) { return values[code]; });
  cpu::CodeLimits limits{};
  limits.order = order;
  for (size_t i = 0; i + 1 < order.size(); ++i)
    limits.limit[i] = (values[order[i]] + values[order[i + 1]]) / 2;
  return limits;
}

/// The place in the signed dynamic map next to x in [-1, 1]. bitsandbytes looks it up on a grid of
/// 65536 points, so that near the middle of two map values the farther one may be taken.
struct NestedCodes {
  static constexpr float kHalfGrid = 32767.5f;
  std::array<uint8_t, 65536> nearest{};

  NestedCodes() {
    const float* values = dynamic_map(true).values;
    size_t place = 0;
    for (size_t i = 0; i < nearest.size(); ++i) {
      const float x = static_cast<float>(i) / kHalfGrid - 1;
      while (place < 255 && (values[place] + values[place + 1]) / 2 < x) ++place;
      nearest[i] = static_cast<uint8_t>(place);
    }
  }
  uint8_t operator()(float x) const {
    return nearest[static_cast<size_t>((x + 1) * kHalfGrid + 0.5f)];
  }
};
const NestedCodes& nested_codes() {
  static const NestedCodes codes;
  return codes;
}

/// Takes the float32 scales of q to eight bits.
void quantize_scales(QuantizedWeight& q) {
  const int64_t blocks = q.absmax.size(0), nested = (blocks + kNestedBlock - 1) / kNestedBlock;
  // ATen's mean: its order of summing is part of the format's bits.
  const Tensor mean = q.absmax.mean(), centred = q.absmax.sub(mean);
  q.nested_offset = mean.item().toDouble();
  q.absmax = ops::empty({blocks}, at::kByte);
  q.nested_absmax = ops::empty({nested}, at::kFloat);
  const NestedCodes& map = nested_codes();
  const auto& values = dynamic_map(true).values;
  q.nested_map = ops::from_vector(std::vector<float>(std::begin(values), std::end(values)));
  const auto* x = cpu::data<float>(centred);
  auto* codes = cpu::data<uint8_t>(q.absmax);
  for (int64_t n = 0; n < nested; ++n) {
    const int64_t begin = n * kNestedBlock, end = std::min(begin + kNestedBlock, blocks);
    float most = 0;
    for (int64_t i = begin; i < end; ++i) most = std::max(most, std::abs(x[i]));
    cpu::data<float>(q.nested_absmax)[n] = most;
    const float inverse = 1.0f / most;
    for (int64_t i = begin; i < end; ++i)
      codes[i] = most == 0 ? 0 : map(std::clamp(x[i] * inverse, -1.0f, 1.0f));
  }
}

Tensor plain(const QuantizedWeight& q, at::ScalarType dtype) {
  const auto look_up = [](const Tensor& map, const Tensor& codes) {
    return map.index_select(0, codes.to(at::kLong));
  };
  const auto spread = [](const Tensor& per_block, int64_t block, int64_t count) {
    return per_block.unsqueeze(1)
        .expand({per_block.size(0), block})
        .reshape({-1})
        .narrow(0, 0, count);
  };
  Tensor scales = q.absmax;
  if (q.nested_map.defined())
    scales = look_up(q.nested_map, scales)
                 .mul(spread(q.nested_absmax, q.nested_block_size, scales.size(0)))
                 .add(q.nested_offset);
  const int64_t count = q.out * q.in;
  const Tensor high = q.codes.bitwise_right_shift(4).unsqueeze(1),
               low = q.codes.bitwise_and(15).unsqueeze(1);
  const Tensor codes = ops::cat({high, low}, 1).view({-1}).narrow(0, 0, count);
  return look_up(q.code_map, codes)
      .mul(spread(scales, q.block_size, count))
      .view({q.out, q.in})
      .to(q.stored)
      .to(dtype);
}

cpu::PackedBlocks packed_blocks(const QuantizedWeight& q) {
  const bool is_nested = q.nested_map.defined();
  return {cpu::data<uint8_t>(q.codes),
          is_nested ? nullptr : cpu::data<float>(q.absmax),
          is_nested ? cpu::data<uint8_t>(q.absmax) : nullptr,
          cpu::data<float>(q.nested_absmax),
          cpu::data<float>(q.nested_map),
          static_cast<float>(q.nested_offset),
          cpu::data<float>(q.code_map),
          q.block_size,
          q.nested_block_size,
          q.out * q.in,
          q.stored == at::kBFloat16 ? cpu::Rounding::kBFloat16
          : q.stored == at::kHalf   ? cpu::Rounding::kFloat16
                                    : cpu::Rounding::kNone};
}

}  // namespace

void dequantize(const QuantizedWeight& q, const Tensor& w) {
  const at::NoGradGuard guard;
  if (q.type == kFloat8Type) {
    w.copy_(q.codes.to(at::kFloat).mul_(q.absmax).to(q.stored));
    return;
  }
  if (is_on_cuda(w)) {
    const cpu::PackedBlocks p = packed_blocks(q);
    const cuda::Dequantize call{cuda::dtype_of(w),
                                cuda::dtype_of(q.stored),
                                p.count,
                                p.block_size,
                                p.nested_block_size,
                                p.codes,
                                p.absmax,
                                p.absmax_codes,
                                p.nested_absmax,
                                p.nested_map,
                                p.nested_offset,
                                p.code_map,
                                q.in,
                                cuda::rows(w)};
    return cuda::run("dequantize", cuda::dequantize, call, {w, q.codes, q.absmax});
  }
  if (!use_cpu_loops(w)) {
    w.copy_(plain(q, w.scalar_type()));
    return;
  }
  const ProfileScope scope("dequantize");
  const cpu::PackedBlocks p = packed_blocks(q);
  cpu::with_type(w, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    cpu::parallel_rows(q.absmax.size(0), q.block_size, [&](int64_t begin, int64_t end) {
      cpu::dequantize<T>({begin, end, q.block_size}, p, cpu::data<T>(w));
    });
  });
}

Tensor dequantize(const QuantizedWeight& q, at::ScalarType dtype) {
  const at::NoGradGuard guard;
  const Tensor w = ops::empty({q.out, q.in}, dtype, q.codes.device());
  dequantize(q, w);
  return w;
}

QuantizedWeight quantize(const Tensor& w, const std::string& type, int64_t block_size,
                         bool double_quant) {
  const at::NoGradGuard guard;
  FT_INVARIANT(w.is_cpu() && w.dim() == 2 && (type == "nf4" || type == "fp4"));
  const std::array<float, 16>& values = type == "nf4" ? kNf4 : kFp4;
  QuantizedWeight q;
  q.type = type;
  q.stored = w.scalar_type();
  q.block_size = block_size;
  q.nested_block_size = kNestedBlock;
  q.out = w.size(0);
  q.in = w.size(1);
  q.code_map = ops::from_vector(std::vector<float>(values.begin(), values.end()));
  const int64_t blocks = (w.numel() + block_size - 1) / block_size;
  q.codes = ops::empty({(w.numel() + 1) / 2}, at::kByte);
  q.absmax = ops::empty({blocks}, at::kFloat);
  const Tensor source = (q.stored == at::kHalf ? w.to(at::kFloat) : w).contiguous();
  const cpu::CodeLimits limits = code_limits(values);
  cpu::with_type(source, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    cpu::parallel_rows(blocks, block_size, [&](int64_t begin, int64_t end) {
      cpu::quantize<T>({begin, end, block_size}, cpu::data<T>(source), w.numel(), limits,
                       cpu::data<uint8_t>(q.codes), cpu::data<float>(q.absmax));
    });
  });
  if (double_quant) quantize_scales(q);
  return q;
}

QuantizedWeight to_device(const QuantizedWeight& weight, at::Device device) {
  QuantizedWeight moved = weight;
  for (Tensor* t :
       {&moved.codes, &moved.absmax, &moved.nested_absmax, &moved.nested_map, &moved.code_map})
    if (t->defined()) *t = t->to(device);
  return moved;
}

}  // namespace ft
