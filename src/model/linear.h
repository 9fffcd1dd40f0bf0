// The only place where a weight multiplies an activation (the output head, which is fused with the
// loss, apart).
#pragma once

#include <memory>
#include <string>

#include "kernels/kernels.h"
#include "model/adapter.h"
#include "model/params.h"

namespace ft {

struct Linear {
  std::string name;  ///< module path in the checkpoint, for example model.layers.0.self_attn.q_proj
  Param* weight = nullptr;  ///< [out, in]; in four bits it has no value: read it with operand()
  Param* bias = nullptr;    ///< [out], null when the layer has none
  std::shared_ptr<Adapter> adapter;

  /// The weight as the ops take it, in `dtype` or in four bits.
  LinearWeight operand(at::ScalarType dtype) const;
  int64_t out() const;
  int64_t in_features() const;

  /// The layer with its adapter, as the ops take it; nullopt where that is not one product.
  std::optional<LinearPart> part(at::ScalarType dtype) const;
  /// x [N, in] -> [N, out]
  Tensor operator()(const Tensor& x) const;
};

}  // namespace ft
