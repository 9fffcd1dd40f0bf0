// Token embedding: a row look-up. Its gradient is a sum over the places where a token stands, in
// token order.
#include "kernels/autograd.h"
#include "kernels/kernels.h"
#include "kernels/ledger.h"

namespace ft {

Tensor embedding(const Tensor& tokens, const Tensor& w) {
  return apply(
      {w},
      [&](Saved& saved) {
        saved.tensors = {tokens};
        return ops::take_rows(w, tokens);
      },
      [rows = w.size(0)](const Tensor& grad, const Saved& saved) -> std::vector<Tensor> {
        if (is_noted(grad)) {  // no meta kernel; ids are sorted and counted, rows added up
          const Tensor dw = ops::empty({rows, grad.size(1)}, grad.scalar_type(), grad.device());
          note_launch("embedding backward", LaunchKind::kElements, 0, {dw, grad}, /*count=*/6);
          return {dw};
        }
        return {at::_ops::embedding_dense_backward::call(grad.contiguous(), saved.tensors[0], rows,
                                                         -1, false)};
      });
}

}  // namespace ft
