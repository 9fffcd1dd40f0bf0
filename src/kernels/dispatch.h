// From a tensor to typed pointers for the CPU loops, and to untyped ones for the CUDA launchers.
#pragma once

#include "base/error.h"
#include "kernels/cpu_loops.h"
#include "kernels/float8.h"
#include "kernels/launch.h"
#include "kernels/ledger.h"
#include "kernels/mode.h"
#include "kernels/profile.h"

namespace ft::cpu {

template <typename T>
T* data(const Tensor& t) {
  return t.defined() ? static_cast<T*>(const_cast<void*>(t.const_data_ptr())) : nullptr;
}

/// Calls f with a null pointer of the loops' type for x's dtype (float32 or bfloat16).
template <typename F>
void with_type(const Tensor& x, F&& f) {
  if (x.scalar_type() == at::kFloat) {
    f(static_cast<float*>(nullptr));
  } else {
    f(static_cast<Bf16*>(nullptr));
  }
}

/// Splits the rows of x [.., width] over the threads: f(type, RowRange).
template <typename F>
void for_rows(const Tensor& x, int64_t width, F&& f) {
  with_type(x, [&](auto* type) {
    parallel_rows(x.numel() / width, width, [&](int64_t begin, int64_t end) {
      f(type, RowRange{begin, end, width});
    });
  });
}

/// Whether cpu::adamw() takes the two as they are.
inline bool has_adamw_loop(const Tensor& param, const Tensor& grad) {
  return grad.is_contiguous() &&
         (grad.scalar_type() == param.scalar_type() || grad.scalar_type() == at::kFloat);
}
/// f(param's data, grad's data) for two that has_adamw_loop() accepts.
template <typename F>
void with_adamw_types(const Tensor& param, const Tensor& grad, F&& f) {
  if (param.scalar_type() == at::kFloat) {
    f(data<float>(param), data<float>(grad));
  } else if (grad.scalar_type() == at::kFloat) {
    f(data<Bf16>(param), data<float>(grad));
  } else {
    f(data<Bf16>(param), data<Bf16>(grad));
  }
}

}  // namespace ft::cpu

namespace ft::cuda {

/// The launchers' name for the dtype of a tensor that use_cuda_kernels() accepts.
inline Dtype dtype_of(at::ScalarType type) {
  if (type == at::kFloat) return Dtype::kFloat32;
  return type == at::kBFloat16 ? Dtype::kBFloat16 : Dtype::kFloat16;
}
inline Dtype dtype_of(const Tensor& x) {
  return dtype_of(x.scalar_type());
}

/// The launcher's arguments; m and v are null where the moments are not float32.
inline Adamw adamw_arguments(const Tensor& param, const Tensor& grad, float* m, float* v,
                             const Tensor& extra, const AdamwSettings& s) {
  return {dtype_of(param),
          dtype_of(grad),
          param.numel(),
          cpu::data<void>(param),
          cpu::data<void>(grad),
          m,
          v,
          cpu::data<void>(extra),
          s.master,
          adamw_factors(s),
          s.rounding_key,
          s.first_element,
          s.device_scale};
}
/// Whether the AdamW kernels take the two.
inline bool has_adamw_kernel(const Tensor& param, const Tensor& grad) {
  return use_cuda_kernels(param) && use_cuda_kernels(grad) && param.scalar_type() != at::kHalf &&
         grad.scalar_type() != at::kHalf;
}

/// A tensor as rows of its last axis, which is dense; every axis before it is one of rows that
/// follow each other.
inline Rows rows(const Tensor& t) {
  if (!t.defined()) return {};
  return {cpu::data<void>(t), t.dim() == 1 ? t.size(0) : t.stride(-2)};
}

/// Undefined: null.
inline Float8Out float8_out(const Float8Rows& t) {
  return {cpu::data<uint8_t>(t.codes), cpu::data<float>(t.scales), kFloat8Most, kFloat8LeastScale};
}

/// Calls a launcher; for meta tensors its launches are noted instead. `touched`: every tensor that
/// the kernels read or write.
template <typename Arguments>
void run(const char* op, cudaError_t (*launcher)(const Arguments&, cudaStream_t),
         const Arguments& arguments, at::TensorList touched, int64_t launches = 1) {
  if (touched[0].is_meta()) return note_launch(op, LaunchKind::kElements, 0, touched, launches);
  const ProfileScope scope(op);
  const cudaError_t error = launcher(arguments, nullptr);
  if (static_cast<int>(error) != 0) fail(Code::kRun, op, ": CUDA: ", error_text(error));
}

}  // namespace ft::cuda
