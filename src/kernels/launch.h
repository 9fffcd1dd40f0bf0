// What depends on how and where the program is built: the only file with #if. The launchers of all
// .cu files, each declared once: raw pointers and sizes in a struct, a stream, an error code back.
// Without CUDA the same lines become bodies that fail, so that no caller needs an #if. They run on
// the default stream, which is LibTorch's current one in this program; the tensors are contiguous
// and on the current device.
#pragma once

#include <cstdint>

#include "kernels/settings.h"

// One function, compiled for several instruction sets; the loader picks the best one the processor
// has, before a sanitizer is there to watch it pick.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FT_CLONES
#endif

#if defined(FT_WITH_CUDA)
#include <cuda_runtime_api.h>
#define FT_LAUNCHER(name, Arguments) cudaError_t name(const Arguments&, cudaStream_t)
namespace ft::cuda {
inline constexpr bool kBuilt = true;
inline const char* error_text(cudaError_t error) {
  return cudaGetErrorString(error);
}
}  // namespace ft::cuda
#else
#include "base/error.h"
#define FT_LAUNCHER(name, Arguments)                        \
  inline cudaError_t name(const Arguments&, cudaStream_t) { \
    fail(Code::kRun, #name, ": built without CUDA");        \
  }
namespace ft::cuda {
using cudaError_t = int;
using cudaStream_t = void*;
inline constexpr bool kBuilt = false;
inline const char* error_text(cudaError_t) {
  return "built without CUDA";
}
}  // namespace ft::cuda
#endif

namespace ft::cuda {

/// The dtype of every `void` pointer of a call, unless said otherwise. Arithmetic is float32.
enum class Dtype { kFloat32, kBFloat16, kFloat16 };

/// A matrix in rows of `stride` elements; null: there is none.
struct Rows {
  void* data = nullptr;
  int64_t stride = 0;
};

struct ResidualNorm {
  Dtype dtype;
  int64_t rows, width;
  Rows x, y;             ///< y: null where nothing is added
  const void* y_weight;  ///< [width], or null: y is added as it is
  const void* w;         ///< [width], or null: only the sum is wanted
  float eps;
  bool adds_one;  ///< NormSettings
  Rows sum, out;  ///< sum: null without y; out: null without w
};
FT_LAUNCHER(residual_norm, ResidualNorm);

/// Rows of `partial`: how many sums over rows run side by side. Fixed, so that weights' gradients
/// do not depend on the device.
inline constexpr int64_t kNormPartials = 512;
struct ResidualNormBackward {
  Dtype dtype;
  int64_t rows, width;
  Rows dsum, dout;  ///< one of them may be null
  Rows sum, y;      ///< y: null unless it was normed
  const void *w, *y_weight;
  float eps;
  bool adds_one;
  Rows dx, dy;            ///< dx: null without dout; dy: null unless y was normed
  float *dw, *dy_weight;  ///< [width], or null: not wanted
  float *partial,
      *y_partial;  ///< scratch [kNormPartials, width], each where its gradient is wanted
};
FT_LAUNCHER(residual_norm_backward, ResidualNormBackward);

/// Queries and keys, [tokens, heads, head_size] each, a token's heads end to end.
struct QkRope {
  Dtype dtype;
  int64_t tokens, q_heads, k_heads, head_size;
  Rows q, k;
  const void *q_weight, *k_weight;  ///< [head_size]: normed before the rotation; null: not
  float eps;
  bool adds_one;
  const float *cos, *sin;  ///< [tokens, head_size / 2]
  Rows q_out, k_out;       ///< may be q and k
};
FT_LAUNCHER(qk_rope, QkRope);

struct QkRopeBackward {
  QkRope forward;                ///< q_out and k_out: the gradients of q and k
  Rows dq, dk;                   ///< of what came out; overwritten
  float *q_dw, *k_dw;            ///< [head_size], or null: not wanted
  float *q_partial, *k_partial;  ///< scratch [kNormPartials, head_size]
};
FT_LAUNCHER(qk_rope_backward, QkRopeBackward);

/// Rows in E4M3 with a scale each (float8.h): the largest of a row becomes `most`.
struct Float8Out {
  uint8_t* codes = nullptr;  ///< rows end to end; null: not wanted
  float* scales = nullptr;   ///< [rows]
  float most = 0, least_scale = 0;
};

struct GatedAct {
  Dtype dtype;
  int64_t rows, width;
  Activation activation;
  Rows gate, up, y;
  Float8Out rounded;  ///< y, too; wants a width of whole packs, as backward
};
FT_LAUNCHER(gated_act, GatedAct);

struct GatedActBackward {
  GatedAct forward;  ///< y: act(gate) * up once more, may be dy; null: not wanted
  Rows dy;
  Rows dgate, dup;    ///< may be gate and up
  Float8Out rounded;  ///< the two beside each other, [rows, 2 width]
};
FT_LAUNCHER(gated_act_backward, GatedActBackward);

struct DropoutMask {
  Dtype dtype;
  int64_t count;
  uint64_t key;  ///< element i is dropped when the upper half of mix64(key ^ i) is below the limit
  uint64_t limit;
  float kept;  ///< what the others are
  void* mask;
};
FT_LAUNCHER(dropout_mask, DropoutMask);

struct CrossEntropy {
  Dtype dtype;
  int64_t rows, width;
  void* logits;            ///< [rows, width]
  const int64_t* targets;  ///< [rows], each in [0, width)
  float* losses;           ///< [rows]
  bool overwrite;          ///< the logits become softmax - onehot(target)
};
FT_LAUNCHER(cross_entropy, CrossEntropy);

struct Adamw {
  Dtype param_dtype, grad_dtype;  ///< float32 or bfloat16; master weights for bfloat16 only
  int64_t count;
  void* param;
  const void* grad;
  float *exp_avg, *exp_avg_sq;
  void* extra;  ///< kKahan: bfloat16, kFloat32: float32, else null
  MasterWeights master;
  AdamwFactors factors;
  uint64_t rounding_key;
  int64_t first_element;       ///< AdamwSettings
  const double* device_scale;  ///< AdamwSettings; or null
};
/// Tensors of one pair of dtypes at once; as many as a launch's arguments hold.
struct AdamwMany {
  static constexpr int64_t kMost = 32;
  int64_t tensors;
  Adamw of[kMost];
};
FT_LAUNCHER(adamw, AdamwMany);

struct Adamw8bit {
  Adamw weights;                            ///< its moments are null
  uint8_t *exp_avg, *exp_avg_sq;            ///< codes
  float *exp_avg_scale, *exp_avg_sq_scale;  ///< one per kQuantizedBlock elements
  const float* tables;                      ///< [4, 256], kernels.h
};
FT_LAUNCHER(adamw8bit, Adamw8bit);

/// The matrix of a QuantizedWeight.
struct Dequantize {
  Dtype dtype, stored;                           ///< of y; the one that values pass through
  int64_t count, block_size, nested_block_size;  ///< sizes: multiples of 8
  const uint8_t* codes;                          ///< [count / 2, rounded up], aligned to 4 bytes
  const float* absmax;                           ///< or null: the scales are in eight bits
  const uint8_t* absmax_codes;                   ///< places in nested_map
  const float *nested_absmax, *nested_map;
  float nested_offset;
  const float* code_map;
  int64_t width;  ///< of a row
  Rows y;         ///< rows aligned to 16 bytes where width is a multiple of 8
};
FT_LAUNCHER(dequantize, Dequantize);

/// Writes the adapters of a group of layers (linear_border.h): A under each other, s B down the
/// diagonal of blocks.
struct Border {
  Dtype dtype, adapter_dtype;
  static constexpr int kMaxParts = 3;
  int64_t parts, in, out;
  int64_t outs[kMaxParts], ranks[kMaxParts];
  const void *a[kMaxParts], *b[kMaxParts];  ///< [rank, in], [out of the part, rank]; rank 0: null
  float scales[kMaxParts];
  Rows a_to, b_to;  ///< [sum of ranks, in], [out, sum of ranks]
};
FT_LAUNCHER(border, Border);

struct ToFloat8 {
  Dtype dtype;
  int64_t rows, width;  ///< width: a multiple of 8
  Rows x;               ///< aligned to 16 bytes, each row
  Float8Out rounded;
};
FT_LAUNCHER(to_float8, ToFloat8);

/// 10 * major + minor of the card's compute capability.
struct Capability {
  int device;
  int* value;
};
FT_LAUNCHER(capability, Capability);

}  // namespace ft::cuda
