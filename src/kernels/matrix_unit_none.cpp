// unit:: where there is no code for a matrix unit.
#include "base/error.h"
#include "kernels/attention.h"
#include "kernels/matrix_unit.h"

namespace ft {

bool unit::probe() {
  return false;
}
Tensor unit::pack(const Tensor&, bool) {
  FT_INVARIANT(false);
}
Tensor unit::multiply(const std::vector<Term>&, const Tensor&, at::ScalarType) {
  FT_INVARIANT(false);
}
void unit::multiply_row(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  FT_INVARIANT(false);
}
OpHalves unit_attention(const Tensor&, const Tensor&, const Tensor&, const Documents&,
                        const AttentionSettings&) {
  FT_INVARIANT(false);
}

}  // namespace ft
