// The ordered map from checkpoint name to tensor: the only owner of weights.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "kernels/quantized.h"

namespace ft {

struct Param {
  std::string
      name;  ///< its name in the published checkpoint (adapters: in adapter_model.safetensors)
  Tensor value;
  at::ScalarType stored;   ///< dtype in the file it came from
  bool is_mapped = false;  ///< lies in a read-only file mapping: never written in place
  double rate_factor = 1;  ///< its learning rate, in learning rates of the run
  /// Frozen and in four bits: `value` is undefined then. Only weights of Linear are.
  std::shared_ptr<const QuantizedWeight> quantized = nullptr;
  int64_t numel() const { return quantized ? quantized->out * quantized->in : value.numel(); }
  bool is_trainable() const { return value.requires_grad(); }
  /// Marks it for training; a mapped tensor is copied first.
  void train();
  /// Another value in its place, in memory of its own. What was mapped leaves this process's
  /// memory.
  void replace(Tensor other);
};

class ParamStore {
 public:
  /// Appends; the name must be new. The reference stays valid.
  Param& add(std::string name, Tensor value, bool is_mapped = false);
  /// The same in four bits.
  Param& add(std::string name, std::shared_ptr<const QuantizedWeight> quantized);
  Param* find(const std::string& name);
  Param& at(const std::string& name);  ///< internal error when absent
  std::deque<Param>& all() { return params_; }
  const std::deque<Param>& all() const { return params_; }
  std::vector<Param*> trainable();
  int64_t num_elements(bool only_trainable) const;

 private:
  std::deque<Param> params_;
  std::unordered_map<std::string, Param*> by_name_;
};

}  // namespace ft
