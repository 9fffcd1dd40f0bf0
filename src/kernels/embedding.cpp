// Token embedding: a row look-up. Its gradient is a sum over the places where a token stands, in
// token order.
#include "kernels/autograd.h"
#include "kernels/kernels.h"

namespace ft {

Tensor embedding(const Tensor& tokens, const Tensor& w) {
  return apply(
      {w},
      [&](Saved& saved) {
        saved.tensors = {tokens};
        return w.index_select(0, tokens);
      },
      [rows = w.size(0)](const Tensor& grad, const Saved& saved) -> std::vector<Tensor> {
        return {at::_ops::embedding_dense_backward::call(grad.contiguous(), saved.tensors[0], rows,
                                                         -1, false)};
      });
}

}  // namespace ft
