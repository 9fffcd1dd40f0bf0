// The loops of cpu_loops.h. Arithmetic is float32 whatever the storage. Each loop is a template
// body, instantiated in plain functions that the compiler builds once per instruction set
// (templates cannot carry target_clones themselves).
#include "kernels/cpu_loops.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/seed.h"
#include "kernels/launch.h"

#define FT_INLINE inline __attribute__((always_inline))
#define FT_LAMBDA __attribute__((always_inline))

namespace ft::cpu {
namespace {

FT_INLINE float to_float(float v) {
  return v;
}
FT_INLINE float to_float(Bf16 v) {
  return std::bit_cast<float>(static_cast<uint32_t>(v.bits) << 16);
}

FT_INLINE void store(float* p, float v) {
  *p = v;
}
FT_INLINE void store(Bf16* p, float v) {  // round to nearest, ties to even; NaN stays NaN
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const uint32_t nearest = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  const uint32_t nan =
      0u - static_cast<uint32_t>((u & 0x7fffffffu) > 0x7f800000u);  // all ones for NaN; no branch
  p->bits = static_cast<uint16_t>((nearest & ~nan) | (0x7fc0u & nan));
}
template <typename T>
FT_INLINE float rounded(float v) {
  T t;
  store(&t, v);
  return to_float(t);
}

/// exp(x) to about 1 unit in the last place: 2^n * p(r), the polynomial of Cephes' expf; beyond 64
/// as at 64, where neither it nor its inverse is near to a denormal number, with which a processor
/// is slow. Without branches or calls, so that loops over it vectorise.
FT_INLINE float fast_exp(float x) {
  x = x < -64.0f ? -64.0f : x;  // a NaN stays one
  x = x > 64.0f ? 64.0f : x;
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits.
  const float shifted = x * 1.44269504088896341f + 12582912.0f, n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) + 127u) << 23);
}

/// act(g) and act'(g).
struct Act {
  float value, slope;
};
FT_INLINE Act silu(float g) {
  const float s = 1.0f / (1.0f + fast_exp(-g));
  return {g * s, s * (1.0f + g * (1.0f - s))};
}
FT_INLINE Act gelu_tanh(float g) {
  constexpr float kRoot = 0.7978845608028654f, kCubic = 0.044715f;  // sqrt(2/pi)
  const float u = kRoot * (g + kCubic * g * g * g);
  const float t = 1.0f - 2.0f / (fast_exp(2.0f * u) + 1.0f);
  return {0.5f * g * (1.0f + t),
          0.5f * (1.0f + t) + 0.5f * g * (1.0f - t * t) * kRoot * (1.0f + 3.0f * kCubic * g * g)};
}

template <typename T>
FT_INLINE float inverse_rms(const T* x, int64_t n, float eps) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += to_float(x[i]) * to_float(x[i]);
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

/// y = x normed, times the weight.
template <typename T>
FT_INLINE void norm_row(const T* x, const T* w, T* y, int64_t n, float eps, bool adds_one) {
  const float scale = inverse_rms(x, n, eps);
  if (adds_one) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      store(&y[i], (1.0f + to_float(w[i])) * (to_float(x[i]) * scale));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      store(&y[i], to_float(w[i]) * rounded<T>(to_float(x[i]) * scale));
  }
}

/// dx = more (where given) + the gradient that norm_row() gives x; dw is added to.
template <typename T>
FT_INLINE void norm_row_backward(const T* dy, const T* x, const T* w, const T* more, T* dx,
                                 float* dw, int64_t n, float eps, bool adds_one) {
  const float one = adds_one ? 1.0f : 0.0f, scale = inverse_rms(x, n, eps);
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) dot += to_float(dy[i]) * (one + to_float(w[i])) * to_float(x[i]);
  const float mean = dot * scale * scale / static_cast<float>(n);
  if (dw) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dw[i] += to_float(dy[i]) * to_float(x[i]) * scale;
  }
  if (more) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      store(&dx[i], to_float(more[i]) +
                        scale * (to_float(dy[i]) * (one + to_float(w[i])) - to_float(x[i]) * mean));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      store(&dx[i], scale * (to_float(dy[i]) * (one + to_float(w[i])) - to_float(x[i]) * mean));
  }
}

template <typename T>
FT_INLINE void residual_norm_body(RowRange r, const ResidualNorm<T>& p) {
  for (int64_t at = r.begin * r.width; at < r.end * r.width; at += r.width) {
    const T* sum = p.x + at;
    if (p.y) {
      const T* y = p.y + at;
      if (p.y_weight) {
        norm_row(y, p.y_weight, p.sum + at, r.width, p.eps, p.adds_one);
        y = p.sum + at;
      }
      T* to = p.sum + at;
#pragma omp simd
      for (int64_t i = 0; i < r.width; ++i) store(&to[i], to_float(sum[i]) + to_float(y[i]));
      sum = to;
    }
    if (p.w) norm_row(sum, p.w, p.out + at, r.width, p.eps, p.adds_one);
  }
}

template <typename T>
FT_INLINE void residual_norm_backward_body(RowRange r, const ResidualNormBackward<T>& p) {
  for (int64_t at = r.begin * r.width; at < r.end * r.width; at += r.width) {
    const T* dsum = p.dsum ? p.dsum + at : nullptr;
    if (p.dout) {
      norm_row_backward(p.dout + at, p.sum + at, p.w, dsum, p.dx + at, p.dw, r.width, p.eps,
                        p.adds_one);
      dsum = p.dx + at;
    }
    if (p.dy)
      norm_row_backward<T>(dsum, p.y + at, p.y_weight, nullptr, p.dy + at, p.dy_weight, r.width,
                           p.eps, p.adds_one);
  }
}

template <typename T>
FT_INLINE void rope_body(RowRange r, int64_t heads, const T* x, const float* cos, const float* sin,
                         T* y, float sign) {
  const int64_t half = r.width / 2;
  for (int64_t row = r.begin; row < r.end; ++row) {
    const float* c = cos + row / heads * half;
    const float* s = sin + row / heads * half;
    const T* a = x + row * r.width;
    T* out = y + row * r.width;
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const float x1 = to_float(a[i]), x2 = to_float(a[i + half]);
      store(&out[i], x1 * c[i] - x2 * sign * s[i]);
      store(&out[i + half], x2 * c[i] + x1 * sign * s[i]);
    }
  }
}

template <typename T>
FT_INLINE void gated_act_body(RowRange r, const T* gate, const T* up, T* y, Activation activation) {
  const int64_t begin = r.begin * r.width, end = r.end * r.width;
  if (activation == Activation::kSilu) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i)
      store(&y[i], silu(to_float(gate[i])).value * to_float(up[i]));
  } else {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i)
      store(&y[i], gelu_tanh(to_float(gate[i])).value * to_float(up[i]));
  }
}

/// Its arrays may be one and the same, element by element.
template <typename T, typename F>
FT_INLINE void gated_act_gradients(int64_t begin, int64_t end, const T* dy, const T* gate,
                                   const T* up, T* dgate, T* dup, T* again, const F& act) {
  if (again) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float d = to_float(dy[i]), u = to_float(up[i]);
      const Act a = act(to_float(gate[i]));
      store(&dgate[i], d * u * a.slope);
      store(&dup[i], d * a.value);
      store(&again[i], a.value * u);
    }
  } else {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float d = to_float(dy[i]), u = to_float(up[i]);
      const Act a = act(to_float(gate[i]));
      store(&dgate[i], d * u * a.slope);
      store(&dup[i], d * a.value);
    }
  }
}

template <typename T>
FT_INLINE void gated_act_backward_body(RowRange r, const T* dy, const T* gate, const T* up,
                                       T* dgate, T* dup, T* again, Activation activation) {
  const int64_t begin = r.begin * r.width, end = r.end * r.width;
  const auto run = [&](const auto& act) FT_LAMBDA {
    gated_act_gradients(begin, end, dy, gate, up, dgate, dup, again, act);
  };
  if (activation == Activation::kSilu) {
    run([](float g) FT_LAMBDA { return silu(g); });
  } else {
    run([](float g) FT_LAMBDA { return gelu_tanh(g); });
  }
}

template <typename T>
FT_INLINE void cross_entropy_body(RowRange r, T* logits, const int64_t* targets, float* losses,
                                  bool overwrite) {
  for (int64_t row = r.begin; row < r.end; ++row) {
    T* l = logits + row * r.width;
    float top = to_float(l[0]);
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < r.width; ++i) top = std::max(top, to_float(l[i]));
    double total = 0;
    for (int64_t block = 0; block < r.width;
         block += 4096) {  // block sums keep float32 exact enough at any V
      const int64_t stop = std::min(r.width, block + 4096);
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = block; i < stop; ++i) sum += fast_exp(to_float(l[i]) - top);
      total += static_cast<double>(sum);
    }
    const int64_t target = targets[row];
    // max() drops NaN: a broken row must still give a broken loss.
    const float poison = (top - top) + to_float(l[target]) * 0.0f;
    losses[row] = static_cast<float>(std::log(total)) + (top - to_float(l[target])) + poison;
    if (!overwrite) continue;
    const float target_p = fast_exp(to_float(l[target]) - top) / static_cast<float>(total);
    const float scale = static_cast<float>(1.0 / total);
#pragma omp simd
    for (int64_t i = 0; i < r.width; ++i) store(&l[i], fast_exp(to_float(l[i]) - top) * scale);
    store(&l[target], target_p - 1.0f);
  }
}

/// Sums of dimensions stay in registers, a stretch of them at a time.
template <typename T>
FT_INLINE void attend_one_body(const CachedHead& h, const T* q, const T* k, const T* v,
                               float* scores, T* out) {
  float top = -INFINITY;
  for (int64_t j = 0; j < h.keys; ++j) {
    const T* key = k + j * h.dim;
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < h.dim; ++i) dot += to_float(q[i]) * to_float(key[i]);
    float score = dot * h.scale;
    if (h.softcap != 0) score = h.softcap * std::tanh(score / h.softcap);
    scores[j] = score;
    top = std::max(top, score);
  }
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t j = 0; j < h.keys; ++j) {
    scores[j] = fast_exp(scores[j] - top);
    total += scores[j];
  }
  constexpr int64_t kStretch = 64;
  const float inverse = 1.0f / total;
  for (int64_t begin = 0; begin < h.dim; begin += kStretch) {
    const int64_t count = std::min(kStretch, h.dim - begin);
    float sums[kStretch] = {};
    if (count == kStretch) {
      for (int64_t j = 0; j < h.keys; ++j) {
        const T* value = v + j * h.dim + begin;
        const float p = scores[j];
#pragma omp simd
        for (int64_t i = 0; i < kStretch; ++i) sums[i] += p * to_float(value[i]);
      }
    } else {
      for (int64_t j = 0; j < h.keys; ++j)
        for (int64_t i = 0; i < count; ++i)
          sums[i] += scores[j] * to_float(v[j * h.dim + begin + i]);
    }
    for (int64_t i = 0; i < count; ++i) store(&out[begin + i], sums[i] * inverse);
  }
}

template <typename T>
FT_INLINE void add_body(RowRange r, const T* x, T* y) {
#pragma omp simd
  for (int64_t i = r.begin * r.width; i < r.end * r.width; ++i)
    store(&y[i], to_float(x[i]) + to_float(y[i]));
}

/// A float32 whose low 16 bits decide by chance which bfloat16 neighbour it becomes: unbiased.
FT_INLINE Bf16 round_stochastic(float v, uint64_t key, int64_t index) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const auto noise = static_cast<uint32_t>(mix64(key ^ static_cast<uint64_t>(index)) & 0xffff);
  return {static_cast<uint16_t>((u + noise) >> 16)};
}

template <typename T, typename G>
FT_INLINE void adamw_body(RowRange r, T* param, const G* grad, float* m, float* v, void* extra,
                          const AdamwSettings& s) {
  const AdamwFactors f = adamw_factors(s);
  T* compensation = s.master == MasterWeights::kKahan ? static_cast<T*>(extra) : nullptr;
  float* master = s.master == MasterWeights::kFloat32 ? static_cast<float*>(extra) : nullptr;
  const auto update = [&](int64_t i, float old) {
    const float g = to_float(grad[i]) * f.grad_scale;
    m[i] = f.b1 * m[i] + f.one_b1 * g;
    v[i] = f.b2 * v[i] + f.one_b2 * g * g;
    return old * f.decay - f.step_size * m[i] / (std::sqrt(v[i]) / f.root2 + f.eps);
  };
  if (master) {
    for (int64_t i = r.begin; i < r.end; ++i) {
      master[i] += update(i, master[i]);
      store(&param[i], master[i]);
    }
  } else if (compensation) {  // Kahan summation: what rounding took away is added to the next
                              // update
    for (int64_t i = r.begin; i < r.end; ++i) {
      const float old = to_float(param[i]);
      const float delta = update(i, old) + to_float(compensation[i]);
      store(&param[i], old + delta);
      store(&compensation[i], delta - (to_float(param[i]) - old));
    }
  } else if constexpr (std::is_same_v<T, Bf16>) {
    for (int64_t i = r.begin; i < r.end; ++i) {
      const float old = to_float(param[i]);
      const float next = old + update(i, old);
      if (s.master == MasterWeights::kStochastic) {
        param[i] = round_stochastic(next, s.rounding_key, s.first_element + i);
      } else {
        store(&param[i], next);
      }
    }
  } else {
#pragma omp simd
    for (int64_t i = r.begin; i < r.end; ++i) param[i] += update(i, param[i]);
  }
}

template <typename T>
FT_INLINE void scale_columns_body(RowRange r, const T* x, const T* z, const float* f, T* y,
                                  float* dots) {
  for (int64_t row = r.begin; row < r.end; ++row) {
    const T *xr = x + row * r.width, *zr = z + row * r.width;
    T* out = y + row * r.width;
    if (dots) {
#pragma omp simd
      for (int64_t i = 0; i < r.width; ++i) dots[i] += to_float(xr[i]) * to_float(zr[i]);
    }
#pragma omp simd
    for (int64_t i = 0; i < r.width; ++i) store(&out[i], to_float(xr[i]) * f[i]);
  }
}

template <typename T>
FT_INLINE double sum_of_squares_body(const T* x, int64_t n) {
  double total = 0;
  for (int64_t block = 0; block < n; block += 4096) {
    const int64_t stop = std::min(n, block + 4096);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = block; i < stop; ++i) sum += to_float(x[i]) * to_float(x[i]);
    total += static_cast<double>(sum);
  }
  return total;
}

}  // namespace

// Instantiations: one plain function per loop and type.
#define FT_LOOPS(T)                                                                                \
  FT_CLONES static void residual_norm_##T(RowRange r, const ResidualNorm<T>& p) {                  \
    residual_norm_body(r, p);                                                                      \
  }                                                                                                \
  template <>                                                                                      \
  void residual_norm(RowRange r, const ResidualNorm<T>& p) {                                       \
    residual_norm_##T(r, p);                                                                       \
  }                                                                                                \
  FT_CLONES static void residual_norm_backward_##T(RowRange r, const ResidualNormBackward<T>& p) { \
    residual_norm_backward_body(r, p);                                                             \
  }                                                                                                \
  template <>                                                                                      \
  void residual_norm_backward(RowRange r, const ResidualNormBackward<T>& p) {                      \
    residual_norm_backward_##T(r, p);                                                              \
  }                                                                                                \
  FT_CLONES static void rope_##T(RowRange r, int64_t heads, const T* x, const float* cos,          \
                                 const float* sin, T* y, float sign) {                             \
    rope_body(r, heads, x, cos, sin, y, sign);                                                     \
  }                                                                                                \
  template <>                                                                                      \
  void rope(RowRange r, int64_t heads, const T* x, const float* cos, const float* sin, T* y,       \
            float sign) {                                                                          \
    rope_##T(r, heads, x, cos, sin, y, sign);                                                      \
  }                                                                                                \
  FT_CLONES static void gated_act_##T(RowRange r, const T* gate, const T* up, T* y,                \
                                      Activation act) {                                            \
    gated_act_body(r, gate, up, y, act);                                                           \
  }                                                                                                \
  template <>                                                                                      \
  void gated_act(RowRange r, const T* gate, const T* up, T* y, Activation act) {                   \
    gated_act_##T(r, gate, up, y, act);                                                            \
  }                                                                                                \
  FT_CLONES static void gated_act_backward_##T(RowRange r, const T* dy, const T* gate,             \
                                               const T* up, T* dgate, T* dup, T* again,            \
                                               Activation act) {                                   \
    gated_act_backward_body(r, dy, gate, up, dgate, dup, again, act);                              \
  }                                                                                                \
  template <>                                                                                      \
  void gated_act_backward(RowRange r, const T* dy, const T* gate, const T* up, T* dgate, T* dup,   \
                          T* again, Activation act) {                                              \
    gated_act_backward_##T(r, dy, gate, up, dgate, dup, again, act);                               \
  }                                                                                                \
  FT_CLONES static void cross_entropy_##T(RowRange r, T* logits, const int64_t* targets,           \
                                          float* losses, bool overwrite) {                         \
    cross_entropy_body(r, logits, targets, losses, overwrite);                                     \
  }                                                                                                \
  template <>                                                                                      \
  void cross_entropy(RowRange r, T* logits, const int64_t* targets, float* losses,                 \
                     bool overwrite) {                                                             \
    cross_entropy_##T(r, logits, targets, losses, overwrite);                                      \
  }                                                                                                \
  FT_CLONES static void attend_one_##T(const CachedHead& head, const T* q, const T* k, const T* v, \
                                       float* scores, T* out) {                                    \
    attend_one_body(head, q, k, v, scores, out);                                                   \
  }                                                                                                \
  template <>                                                                                      \
  void attend_one(const CachedHead& head, const T* q, const T* k, const T* v, float* scores,       \
                  T* out) {                                                                        \
    attend_one_##T(head, q, k, v, scores, out);                                                    \
  }                                                                                                \
  FT_CLONES static void scale_columns_##T(RowRange r, const T* x, const T* z, const float* f,      \
                                          T* y, float* dots) {                                     \
    scale_columns_body(r, x, z, f, y, dots);                                                       \
  }                                                                                                \
  template <>                                                                                      \
  void scale_columns(RowRange r, const T* x, const T* z, const float* f, T* y, float* dots) {      \
    scale_columns_##T(r, x, z, f, y, dots);                                                        \
  }                                                                                                \
  FT_CLONES static void add_##T(RowRange r, const T* x, T* y) {                                    \
    add_body(r, x, y);                                                                             \
  }                                                                                                \
  template <>                                                                                      \
  void add(RowRange r, const T* x, T* y) {                                                         \
    add_##T(r, x, y);                                                                              \
  }                                                                                                \
  FT_CLONES static double sum_of_squares_##T(const T* x, int64_t n) {                              \
    return sum_of_squares_body(x, n);                                                              \
  }                                                                                                \
  template <>                                                                                      \
  double sum_of_squares(const T* x, int64_t n) {                                                   \
    return sum_of_squares_##T(x, n);                                                               \
  }
FT_LOOPS(float)
FT_LOOPS(Bf16)
#undef FT_LOOPS

#define FT_ADAMW(T, G)                                                                           \
  FT_CLONES static void adamw_##T##_##G(RowRange r, T* param, const G* grad, float* m, float* v, \
                                        void* extra, const AdamwSettings& s) {                   \
    adamw_body(r, param, grad, m, v, extra, s);                                                  \
  }                                                                                              \
  template <>                                                                                    \
  void adamw(RowRange r, T* param, const G* grad, float* m, float* v, void* extra,               \
             const AdamwSettings& s) {                                                           \
    adamw_##T##_##G(r, param, grad, m, v, extra, s);                                             \
  }
FT_ADAMW(float, float)
FT_ADAMW(Bf16, Bf16)
FT_ADAMW(Bf16, float)
#undef FT_ADAMW

}  // namespace ft::cpu
