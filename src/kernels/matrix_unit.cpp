// The calls, which end in the matrix unit's code (unit::) or in LibTorch.
#include "kernels/matrix_unit.h"

#include "base/error.h"
#include "kernels/mode.h"
#include "kernels/profile.h"

namespace ft {
namespace {

Tensor plain_multiply(const std::vector<Term>& terms, const Tensor& bias, at::ScalarType dtype) {
  Tensor y;
  for (const auto& [left, right] : terms) {
    const Tensor matrix =
        (right.scale == 1 ? right.matrix : right.matrix.mul(right.scale)).to(left.dtype());
    if (y.defined()) {
      y.addmm_(left.plain(), right.transposed ? matrix.t() : matrix);
    } else if (right.transposed) {
      y = ops::linear(left.plain(), matrix, bias.defined() ? OptTensor(bias) : std::nullopt);
    } else {
      y = left.plain().mm(matrix);
      if (bias.defined()) y.add_(bias);
    }
  }
  return y.to(dtype);
}

}  // namespace

bool has_matrix_unit() {
  static const bool is_there = unit::probe();
  return is_there;
}

bool use_matrix_unit(const Tensor& x) {
  return kernel_mode() == KernelMode::kAuto && x.scalar_type() == at::kBFloat16 &&
         use_cpu_loops(x) && has_matrix_unit();
}

Packed::Packed(const Tensor& x, bool transposed)
    : rows_(x.size(transposed ? 1 : 0)),
      inner_(x.size(transposed ? 0 : 1)),
      is_on_unit_(use_matrix_unit(x)) {
  if (is_on_unit_ && inner_ <= unit::kMaxInner && rows_ > unit::kFewRows) {
    const ProfileScope scope("pack");
    tiles_ = unit::pack(x, transposed);
  } else {
    plain_ = transposed ? x.t() : x;
  }
}

Tensor multiply(const std::vector<Term>& terms, const Tensor& bias,
                std::optional<at::ScalarType> dtype) {
  const ProfileScope scope("multiply");
  const Packed& left = terms[0].left;
  const auto type = dtype.value_or(left.dtype());
  return left.is_on_unit() ? unit::multiply(terms, bias, type) : plain_multiply(terms, bias, type);
}

}  // namespace ft
