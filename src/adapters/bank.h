// Several adapters on one model: the base is loaded once, and each row of a batch goes through the
// adapter that it asks for.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "adapters/adapters.h"
#include "finetune/run.h"

namespace ft {

/// Rows of the activations that go through one adapter.
struct RowGroup {
  int64_t adapter;  ///< -1: the base alone
  Tensor rows;      ///< int64; undefined: all
};

class AdapterBank {
 public:
  /// Loads every folder; the model is left without any of them. Error (usage) for a name that is
  /// there twice or means the base.
  AdapterBank(Model& model, const std::vector<NamedAdapter>& adapters);
  const AdapterSet& set(int64_t adapter) const { return sets_[static_cast<size_t>(adapter)]; }

  /// Makes the model one that follows choose() (adapter -1), or one with that adapter alone on all
  /// rows, which an adapter that trains whole modules needs.
  void install(Model& model, int64_t adapter);
  /// The adapter of each row of the next forward pass.
  void choose(const std::vector<int64_t>& adapter_of_row, at::Device device);

 private:
  std::deque<ParamStore> stores_;
  std::deque<AdapterSet> sets_;
  std::shared_ptr<std::vector<RowGroup>> groups_;
};

}  // namespace ft
