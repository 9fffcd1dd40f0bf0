// The one door to ATen: the tensor class and thin wrappers over the operators this program calls as
// free functions. Full operator headers cost seconds a file; these cost a fraction of one. Always
// called qualified: ops::cat(...). Tensor methods (x.mul(y), x.sum()) are there anyway and are used
// as they are.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward_ops.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_ops.h>
#include <ATen/ops/arange_ops.h>
#include <ATen/ops/embedding_dense_backward_ops.h>
#include <ATen/ops/empty_ops.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full_ops.h>
#include <ATen/ops/gelu_ops.h>
#include <ATen/ops/linear_ops.h>
#include <ATen/ops/mm_ops.h>
#include <ATen/ops/scaled_dot_product_attention_ops.h>
#include <ATen/ops/silu_ops.h>
#include <ATen/ops/where_ops.h>
#include <ATen/ops/zeros_ops.h>
#include <c10/core/GradMode.h>

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace ft {

using at::Tensor;
using OptTensor =
    std::optional<Tensor>;  ///< absent: the operand does not exist (no bias, no adapter)

namespace ops {

inline Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype, at::Device device = at::kCPU) {
  return at::_ops::empty_memory_format::call(c10::fromIntArrayRefSlow(sizes), dtype, std::nullopt,
                                             device, std::nullopt, std::nullopt);
}
inline Tensor empty_like(const Tensor& x) {
  return empty(x.sizes(), x.scalar_type(), x.device());
}
/// Host memory that a GPU reads and writes by itself.
inline Tensor pinned(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::_ops::empty_memory_format::call(c10::fromIntArrayRefSlow(sizes), dtype, std::nullopt,
                                             at::Device(at::kCPU), /*pin_memory=*/true,
                                             std::nullopt);
}
inline Tensor zeros(at::IntArrayRef sizes, at::ScalarType dtype, at::Device device = at::kCPU) {
  return at::_ops::zeros::call(c10::fromIntArrayRefSlow(sizes), dtype, std::nullopt, device,
                               std::nullopt);
}
inline Tensor full(at::IntArrayRef sizes, double value, at::ScalarType dtype,
                   at::Device device = at::kCPU) {
  return at::_ops::full::call(c10::fromIntArrayRefSlow(sizes), value, dtype, std::nullopt, device,
                              std::nullopt);
}
inline Tensor arange(int64_t end, at::ScalarType dtype, at::Device device = at::kCPU) {
  return at::_ops::arange::call(end, dtype, std::nullopt, device, std::nullopt);
}
inline Tensor linear(const Tensor& x, const Tensor& w, const OptTensor& bias = {}) {
  return at::_ops::linear::call(x, w, bias);
}
inline Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return at::_ops::where_self::call(condition, a, b);
}
/// to = x w, where `to` may have rows of any stride.
inline void mm_out(const Tensor& to, const Tensor& x, const Tensor& w) {
  Tensor out = to;
  at::_ops::mm_out::call(x, w, out);
}
/// A matrix over the memory of x, no view of it to autograd: what is written to the one counts as
/// no change of the other. For columns beside each other that different ops own.
Tensor over(const Tensor& x, int64_t offset, int64_t rows, int64_t columns, int64_t stride);
/// Rows of x [n, C] by indices [m] -> [m, C].
Tensor take_rows(const Tensor& x, const Tensor& indices);
/// x w of low precision as float32, as it was summed.
Tensor mm_float(const Tensor& x, const Tensor& w);
Tensor cat(const std::vector<Tensor>& parts, int64_t dim = 0);
/// Reduced decompositions of x [m, n], k = min(m, n): Q [m, k], R [k, n]; U [m, k], S [k], V^T [k,
/// n].
std::tuple<Tensor, Tensor> qr(const Tensor& x);
std::tuple<Tensor, Tensor, Tensor> svd(const Tensor& x);

/// Sum of the squares of all elements of tensors of one device, a float64 scalar there: few
/// launches for many tensors.
Tensor sum_of_squares(const std::vector<Tensor>& tensors);

/// Puts `more` at the end of `to`.
void append(std::vector<Tensor>& to, std::vector<Tensor> more);

/// A copy of host values as a tensor on `device`.
Tensor from_vector(const std::vector<int64_t>& values, at::Device device = at::kCPU);
Tensor from_vector(const std::vector<float>& values, at::Device device = at::kCPU);

}  // namespace ops

/// The dtype sums are made in: float32, or float64 for float64, so that the plain twins can be
/// checked against finite differences.
inline at::ScalarType wide_dtype(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/// Fails (internal) unless x has exactly these sizes; -1 matches any.
void check_shape(const Tensor& x, const char* name, std::initializer_list<int64_t> sizes);

/// `[2, 3]`
std::string shape_text(at::IntArrayRef sizes);

}  // namespace ft
