// The only place where a weight multiplies an activation (the output head, which is fused with the
// loss, apart).
#pragma once

#include <memory>
#include <string>

#include "model/adapter.h"
#include "model/params.h"

namespace ft {

struct Linear {
  std::string name;  ///< module path in the checkpoint, for example model.layers.0.self_attn.q_proj
  Param* weight = nullptr;  ///< [out, in]
  Param* bias = nullptr;    ///< [out], null when the layer has none
  std::shared_ptr<Adapter> adapter;

  /// x [N, in] -> [N, out]
  Tensor operator()(const Tensor& x) const;
};

}  // namespace ft
