// AdamW with 8-bit moments. Each way brings a few blocks of codes to float32, runs the float32
// update on them, master modes and all, and finds the nearest codes again. Unlike bitsandbytes'
// kernel the decay takes the weight from before the update, as torch's AdamW does: a relative
// difference of rate * decay in the update.
#include <ATen/ops/bucketize_ops.h>

#include "kernels/dispatch.h"
#include "kernels/kernels.h"

namespace ft {
namespace {

int64_t num_blocks(int64_t n) {
  return (n + kQuantizedBlock - 1) / kQuantizedBlock;
}

Tensor dequantized(const Tensor& codes, const Tensor& scales, const Tensor& values) {
  const Tensor by_element =
      scales.unsqueeze(1).expand({scales.numel(), kQuantizedBlock}).reshape({-1});
  return values.index_select(0, codes.reshape({-1}).to(at::kLong))
      .mul_(by_element.narrow(0, 0, codes.numel()))
      .view(codes.sizes());
}

void quantize(const Tensor& x, const Tensor& middles, const Tensor& codes, const Tensor& scales) {
  const int64_t n = x.numel(), blocks = num_blocks(n);
  Tensor padded = ops::zeros({blocks * kQuantizedBlock}, at::kFloat, x.device());
  padded.narrow(0, 0, n).copy_(x.reshape({-1}));
  padded = padded.view({blocks, kQuantizedBlock});
  scales.copy_(padded.abs().amax({1}));
  const Tensor divisor = scales.masked_fill(scales.eq(0), 1).unsqueeze(1);
  const Tensor found = at::_ops::bucketize_Tensor::call(padded.div(divisor), middles,
                                                        /*out_int32=*/true, /*right=*/false);
  codes.copy_(found.view({-1}).narrow(0, 0, n).view(codes.sizes()));
}

void reference(const Tensor& param, const Tensor& grad, const QuantizedMoments& q,
               const Tensor& extra, const AdamwSettings& s) {
  const Tensor m = dequantized(q.exp_avg, q.exp_avg_scale, q.tables[0]);
  const Tensor v = dequantized(q.exp_avg_sq, q.exp_avg_sq_scale, q.tables[2]);
  adamw(param, grad, m, v, extra, s);
  quantize(m, q.tables[1].narrow(0, 0, 255), q.exp_avg, q.exp_avg_scale);
  quantize(v, q.tables[3].narrow(0, 0, 255), q.exp_avg_sq, q.exp_avg_sq_scale);
}

/// Elements [begin, end) in pieces of a few blocks, whose moments stay in the nearest cache.
template <typename T, typename G>
void update_range(int64_t begin, int64_t end, T* param, const G* grad, const QuantizedMoments& q,
                  const Tensor& extra, AdamwSettings s) {
  constexpr int64_t kPiece = 8 * kQuantizedBlock;
  float m[kPiece], v[kPiece];
  const DynamicMap &with_sign = dynamic_map(true), &without = dynamic_map(false);
  const int64_t extra_size = extra.defined() ? extra.element_size() : 0;
  const int64_t first = s.first_element;
  for (int64_t at = begin; at < end; at += kPiece) {
    const int64_t n = std::min(kPiece, end - at), block = at / kQuantizedBlock;
    auto *m8 = cpu::data<uint8_t>(q.exp_avg) + at, *v8 = cpu::data<uint8_t>(q.exp_avg_sq) + at;
    auto *m_scale = cpu::data<float>(q.exp_avg_scale) + block,
         *v_scale = cpu::data<float>(q.exp_avg_sq_scale) + block;
    cpu::dequantize_blocks(m8, m_scale, n, with_sign, m);
    cpu::dequantize_blocks(v8, v_scale, n, without, v);
    s.first_element = first + at;
    void* state = extra_size == 0 ? nullptr : cpu::data<std::byte>(extra) + at * extra_size;
    cpu::adamw({0, n, 1}, param + at, grad + at, m, v, state, s);
    cpu::quantize_blocks(m, n, with_sign, m8, m_scale);
    cpu::quantize_blocks(v, n, without, v8, v_scale);
  }
}

}  // namespace

Tensor make_dynamic_tables(at::Device device) {
  std::vector<float> all;
  for (const bool is_signed : {true, false}) {
    const DynamicMap& map = dynamic_map(is_signed);
    all.insert(all.end(), std::begin(map.values), std::end(map.values));
    all.insert(all.end(), std::begin(map.middles), std::end(map.middles));
  }
  return ops::from_vector(all, device).view({4, 256});
}

void adamw8bit(const Tensor& param, const Tensor& grad, const QuantizedMoments& moments,
               const Tensor& extra, const AdamwSettings& settings) {
  at::NoGradGuard guard;
  FT_INVARIANT(moments.exp_avg_scale.numel() == num_blocks(param.numel()));
  if (cuda::has_adamw_kernel(param, grad)) {
    const cuda::Adamw8bit p{cuda::adamw_arguments(param, grad, nullptr, nullptr, extra, settings),
                            cpu::data<uint8_t>(moments.exp_avg),
                            cpu::data<uint8_t>(moments.exp_avg_sq),
                            cpu::data<float>(moments.exp_avg_scale),
                            cpu::data<float>(moments.exp_avg_sq_scale),
                            cpu::data<float>(moments.tables)};
    return cuda::run("adamw8bit", cuda::adamw8bit, p,
                     {param, param, grad, moments.exp_avg, moments.exp_avg, moments.exp_avg_sq,
                      moments.exp_avg_sq, extra, extra});
  }
  if (!use_cpu_loops(param) || !cpu::has_adamw_loop(param, grad)) {
    reference(param, grad, moments, extra, settings);
    return;
  }
  const int64_t n = param.numel();
  cpu::parallel_rows(num_blocks(n), kQuantizedBlock, [&](int64_t begin, int64_t end) {
    cpu::with_adamw_types(param, grad, [&](auto* p, auto* g) {
      update_range(begin * kQuantizedBlock, std::min(n, end * kQuantizedBlock), p, g, moments,
                   extra, settings);
    });
  });
}

}  // namespace ft
