#include "model/params.h"

#include "base/error.h"
#include "base/mapped_file.h"

namespace ft {

void Param::train() {
  FT_INVARIANT(!quantized);
  if (is_mapped) replace(value.clone());
  value.requires_grad_(true);
}

void Param::replace(Tensor other) {
  if (is_mapped) release_pages(value.const_data_ptr(), value.nbytes());
  is_mapped = false;
  value = std::move(other);
}

Param& ParamStore::add(std::string name, Tensor value, bool is_mapped) {
  FT_INVARIANT(!by_name_.contains(name));
  const auto dtype = value.scalar_type();
  Param& param = params_.emplace_back(Param{std::move(name), std::move(value), dtype, is_mapped});
  by_name_[param.name] = &param;
  return param;
}

Param& ParamStore::add(std::string name, std::shared_ptr<const QuantizedWeight> quantized) {
  Param& param = add(std::move(name), Tensor());
  param.stored = quantized->stored;
  param.quantized = std::move(quantized);
  return param;
}

Param* ParamStore::find(const std::string& name) {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

Param& ParamStore::at(const std::string& name) {
  Param* found = find(name);
  if (!found) fail(Code::kInternal, name, ": no such parameter");
  return *found;
}

std::vector<Param*> ParamStore::trainable() {
  std::vector<Param*> found;
  for (Param& p : params_)
    if (p.is_trainable()) found.push_back(&p);
  return found;
}

int64_t ParamStore::num_elements(bool only_trainable) const {
  int64_t n = 0;
  for (const Param& p : params_)
    if (!only_trainable || p.is_trainable()) n += p.numel();
  return n;
}

}  // namespace ft
