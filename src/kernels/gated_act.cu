// SwiGLU and GeGLU on CUDA: element by element, one pass each way; act and its slope are computed
// again in the backward pass.
#include "kernels/float8_code.cuh"

namespace ft::cuda {
namespace {

/// act(g) and act'(g).
struct Act {
  float value, slope;
};
struct Silu {
  __device__ Act operator()(float g) const {
    const float s = 1.0f / (1.0f + expf(-g));
    return {g * s, s * (1.0f + g * (1.0f - s))};
  }
};
struct GeluTanh {
  __device__ Act operator()(float g) const {
    constexpr float kRoot = 0.7978845608028654f, kCubic = 0.044715f;  // sqrt(2/pi)
    const float t = tanhf(kRoot * (g + kCubic * g * g * g));
    return {0.5f * g * (1.0f + t),
            0.5f * (1.0f + t) + 0.5f * g * (1.0f - t * t) * kRoot * (1.0f + 3.0f * kCubic * g * g)};
  }
};

/// A pack of this block's row.
template <typename T, int kWide>
__device__ __forceinline__ Pack<T, kWide>& pack_of(const Rows& rows, int64_t column) {
  return pack_at<kWide>(static_cast<T*>(rows.data) + blockIdx.x * rows.stride + column);
}

template <typename T>
constexpr bool is_packed(int wide) {
  return wide * sizeof(T) == kPackBytes;
}

template <typename T, typename Activate, int kWide>
__global__ void gated_act_forward(GatedAct p) {
  float most = 0;
  for (int64_t i = threadIdx.x * kWide; i < p.width; i += blockDim.x * kWide) {
    const auto gate = pack_of<T, kWide>(p.gate, i), up = pack_of<T, kWide>(p.up, i);
    Pack<T, kWide> y;
    for (int k = 0; k < kWide; ++k)
      store(&y.values[k], Activate()(to_float(gate.values[k])).value * to_float(up.values[k]));
    pack_of<T, kWide>(p.y, i) = y;
    most = fmaxf(most, largest(y));
  }
  if constexpr (is_packed<T>(kWide)) {
    if (!p.rounded.codes) return;
    const float inverse = float8_inverse(p.rounded, most);
    row_to_float8(&pack_of<T, kWide>(p.y, 0).values[0], p.width, inverse,
                  p.rounded.codes + blockIdx.x * p.width);
  }
}

template <typename T, typename Activate, int kWide>
__global__ void gated_act_gradients(GatedActBackward b) {
  const GatedAct& p = b.forward;
  float most = 0;
  for (int64_t i = threadIdx.x * kWide; i < p.width; i += blockDim.x * kWide) {
    const auto gate = pack_of<T, kWide>(p.gate, i), up = pack_of<T, kWide>(p.up, i),
               dy = pack_of<T, kWide>(b.dy, i);
    Pack<T, kWide> y, dgate, dup;
    for (int k = 0; k < kWide; ++k) {
      const float d = to_float(dy.values[k]), u = to_float(up.values[k]);
      const Act a = Activate()(to_float(gate.values[k]));
      store(&dgate.values[k], d * u * a.slope);
      store(&dup.values[k], d * a.value);
      store(&y.values[k], a.value * u);
    }
    pack_of<T, kWide>(b.dgate, i) = dgate;
    pack_of<T, kWide>(b.dup, i) = dup;
    if (p.y.data) pack_of<T, kWide>(p.y, i) = y;
    most = fmaxf(most, fmaxf(largest(dgate), largest(dup)));
  }
  if constexpr (is_packed<T>(kWide)) {
    if (!b.rounded.codes) return;
    const float inverse = float8_inverse(b.rounded, most);
    uint8_t* codes = b.rounded.codes + 2 * blockIdx.x * p.width;
    row_to_float8(&pack_of<T, kWide>(b.dgate, 0).values[0], p.width, inverse, codes);
    row_to_float8(&pack_of<T, kWide>(b.dup, 0).values[0], p.width, inverse, codes + p.width);
  }
}

/// f(T, Activate, kWide as an integral constant).
template <typename F>
cudaError_t with_variant(const GatedAct& p, std::initializer_list<Rows> all, bool wants_packs,
                         const F& f) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const auto with_width = [&](auto activate) {
      if (wants_packs && !in_packs<T>(p.width, all)) return cudaErrorInvalidValue;
      return in_packs<T>(p.width, all)
                 ? f(type, activate, std::integral_constant<int, kPackBytes / sizeof(T)>())
                 : f(type, activate, std::integral_constant<int, 1>());
    };
    return p.activation == Activation::kSilu ? with_width(Silu()) : with_width(GeluTanh());
  });
}

int threads_of(const GatedAct& p) {
  return threads_for(p.width / 2);
}

}  // namespace

cudaError_t gated_act(const GatedAct& p, cudaStream_t stream) {
  return with_variant(
      p, {p.gate, p.up, p.y}, p.rounded.codes, [&](auto* type, auto activate, auto wide) {
        using T = std::remove_pointer_t<decltype(type)>;
        return launch(gated_act_forward<T, decltype(activate), decltype(wide)::value>, p.rows,
                      threads_of(p), stream, p);
      });
}

cudaError_t gated_act_backward(const GatedActBackward& b, cudaStream_t stream) {
  const GatedAct& p = b.forward;
  return with_variant(p, {p.gate, p.up, p.y, b.dy, b.dgate, b.dup}, b.rounded.codes,
                      [&](auto* type, auto activate, auto wide) {
                        using T = std::remove_pointer_t<decltype(type)>;
                        return launch(
                            gated_act_gradients<T, decltype(activate), decltype(wide)::value>,
                            p.rows, threads_of(p), stream, b);
                      });
}

}  // namespace ft::cuda
