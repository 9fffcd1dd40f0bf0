// The choices an op takes, free of LibTorch so that .cu files may include them.
#pragma once

#include <cmath>
#include <cstdint>

namespace ft {

/// SwiGLU's and GeGLU's non-linearity.
enum class Activation { kSilu, kGeluTanh };

/// What a norm does with its weight w: Llama rounds the normed x to its dtype, then times w; Gemma
/// multiplies by 1 + w in float32 and rounds once.
struct NormSettings {
  double eps = 1e-6;
  bool adds_one = false;
};

/// The scores of attention: scale * q k, then softcap * tanh(score / softcap) where softcap is not
/// 0 (Gemma 2). A token sees `window` tokens, itself the last of them; 0: all before it.
struct AttentionSettings {
  double scale = 1;
  int64_t window = 0;
  double softcap = 0;
};

/// How an update too small for the weight's dtype is kept (bfloat16 weights).
enum class MasterWeights { kNone, kKahan, kStochastic, kFloat32 };

struct AdamwSettings {
  double learning_rate, beta1, beta2, eps, weight_decay;
  int64_t step;           ///< 1 for the first
  double grad_scale = 1;  ///< multiplies the gradient: clipping
  MasterWeights master = MasterWeights::kNone;
  uint64_t rounding_key = 0;  ///< for kStochastic
  int64_t first_element = 0;  ///< where in its tensor a piece begins: the noise is by element
  /// CUDA only: a number of the device that multiplies the gradient too; where it is NaN nothing is
  /// updated. Null: none.
  const double* device_scale = nullptr;
};

/// AdamwSettings as the float32 numbers an element's update needs:
///   m = b1 m + one_b1 g,  v = b2 v + one_b2 g^2,
///   p += decay p - step_size m / (sqrt(v) / root2 + eps)
struct AdamwFactors {
  float b1, one_b1, b2, one_b2, step_size, root2, decay, eps, grad_scale;
};

/// The differences 1 - beta and the bias corrections are taken in float64: float32 would lose their
/// digits. For the same reason the decay is a term of its own, not a factor 1 - rate * decay.
inline AdamwFactors adamw_factors(const AdamwSettings& s) {
  const auto step = static_cast<double>(s.step);
  return {static_cast<float>(s.beta1),
          static_cast<float>(1 - s.beta1),
          static_cast<float>(s.beta2),
          static_cast<float>(1 - s.beta2),
          static_cast<float>(s.learning_rate / (1 - std::pow(s.beta1, step))),
          static_cast<float>(std::sqrt(1 - std::pow(s.beta2, step))),
          static_cast<float>(-s.learning_rate * s.weight_decay),
          static_cast<float>(s.eps),
          static_cast<float>(s.grad_scale)};
}

}  // namespace ft
