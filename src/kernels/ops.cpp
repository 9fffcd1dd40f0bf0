#include "kernels/ops.h"

#include <ATen/core/IListRef.h>
#include <ATen/ops/_foreach_norm_ops.h>
#include <ATen/ops/cat_ops.h>
#include <ATen/ops/linalg_qr_ops.h>
#include <ATen/ops/linalg_svd_ops.h>
#include <ATen/ops/set_ops.h>
#include <ATen/ops/stack_ops.h>

#include <cstring>

#include "base/error.h"
#include "kernels/ledger.h"

namespace ft {
namespace ops {
namespace {

template <typename T>
Tensor copy_of(const std::vector<T>& values, at::ScalarType dtype, at::Device device) {
  const auto size = static_cast<int64_t>(values.size());
  // From pinned memory, which is not used again before it was read, the host goes on at once.
  const Tensor host = device.is_cuda() ? pinned({size}, dtype) : empty({size}, dtype);
  if (!values.empty()) std::memcpy(host.data_ptr(), values.data(), values.size() * sizeof(T));
  return device.is_cpu() ? host : host.to(device, dtype, /*non_blocking=*/true);
}

}  // namespace

Tensor over(const Tensor& x, int64_t offset, int64_t rows, int64_t columns, int64_t stride) {
  Tensor t = empty({0}, x.scalar_type(), x.device());
  const int64_t sizes[] = {rows, columns}, strides[] = {stride, 1};
  return at::_ops::set__source_Storage_storage_offset::call(
      t, x.storage(), offset, c10::fromIntArrayRefSlow(sizes), c10::fromIntArrayRefSlow(strides));
}
Tensor take_rows(const Tensor& x, const Tensor& indices) {
  if (!is_noted(x)) return x.index_select(0, indices);
  Tensor y = empty({indices.size(0), x.size(1)}, x.scalar_type(), x.device());  // no meta kernel
  note_launch("index_select", LaunchKind::kElements, 0, {y, y, indices});
  return y;
}
Tensor mm_float(const Tensor& x, const Tensor& w) {
  if (x.is_cuda() && x.scalar_type() != at::kFloat)
    return at::_ops::mm_dtype::call(x, w, at::kFloat);
  if (!is_noted(x)) return x.mm(w).to(at::kFloat);
  const Tensor y = empty({x.size(0), w.size(1)}, at::kFloat, x.device());
  note_product("mm", {x, w, y});
  return y;
}
Tensor cat(const std::vector<Tensor>& parts, int64_t dim) {
  return at::_ops::cat::call(at::ITensorListRef(parts), dim);
}
std::tuple<Tensor, Tensor> qr(const Tensor& x) {
  return at::_ops::linalg_qr::call(x, "reduced");
}
std::tuple<Tensor, Tensor, Tensor> svd(const Tensor& x) {
  return at::_ops::linalg_svd::call(x, /*full_matrices=*/false, std::nullopt);
}
Tensor sum_of_squares(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) return zeros({}, at::kDouble);
  if (is_noted(tensors[0])) {
    Tensor all = empty({static_cast<int64_t>(tensors.size())}, at::kFloat, tensors[0].device());
    for (const Tensor& t : tensors)
      note_launch("foreach_norm", LaunchKind::kElements, 0, {t}, /*count=*/0);
    return all.to(at::kDouble).square().sum();
  }
  const std::vector<Tensor> norms = at::_ops::_foreach_norm_Scalar::call(tensors, 2, at::kFloat);
  return at::_ops::stack::call(norms, 0).to(at::kDouble).square().sum();
}
void append(std::vector<Tensor>& to, std::vector<Tensor> more) {
  for (Tensor& t : more) to.push_back(std::move(t));
}
Tensor from_vector(const std::vector<int64_t>& values, at::Device device) {
  return copy_of(values, at::kLong, device);
}
Tensor from_vector(const std::vector<float>& values, at::Device device) {
  return copy_of(values, at::kFloat, device);
}

}  // namespace ops

std::string shape_text(at::IntArrayRef sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

void check_shape(const Tensor& x, const char* name, std::initializer_list<int64_t> sizes) {
  bool same = x.dim() == static_cast<int64_t>(sizes.size());
  for (size_t i = 0; same && i < sizes.size(); ++i) {
    const int64_t wanted = sizes.begin()[i];
    same = wanted == -1 || x.size(static_cast<int64_t>(i)) == wanted;
  }
  if (!same)
    fail(Code::kInternal, name, ": shape ", shape_text(x.sizes()), ", wanted ",
         shape_text(at::IntArrayRef(sizes.begin(), sizes.size())));
}

}  // namespace ft
