#include "kernels/ops.h"

#include <ATen/core/IListRef.h>
#include <ATen/ops/cat_ops.h>
#include <ATen/ops/linalg_qr_ops.h>
#include <ATen/ops/linalg_svd_ops.h>

#include <cstring>

#include "base/error.h"

namespace ft {
namespace ops {
namespace {

template <typename T>
Tensor copy_of(const std::vector<T>& values, at::ScalarType dtype, at::Device device) {
  Tensor host = empty({static_cast<int64_t>(values.size())}, dtype);
  if (!values.empty()) std::memcpy(host.data_ptr(), values.data(), values.size() * sizeof(T));
  return device.is_cpu() ? host : host.to(device);
}

}  // namespace

Tensor cat(const std::vector<Tensor>& parts, int64_t dim) {
  return at::_ops::cat::call(at::ITensorListRef(parts), dim);
}
std::tuple<Tensor, Tensor> qr(const Tensor& x) {
  return at::_ops::linalg_qr::call(x, "reduced");
}
std::tuple<Tensor, Tensor, Tensor> svd(const Tensor& x) {
  return at::_ops::linalg_svd::call(x, /*full_matrices=*/false, std::nullopt);
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
