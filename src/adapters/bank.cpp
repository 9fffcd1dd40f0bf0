#include "adapters/bank.h"

#include <set>

#include "base/error.h"

namespace ft {
namespace {

/// A layer's part of every adapter, null where one leaves it alone.
class SwitchedAdapter : public Adapter {
 public:
  explicit SwitchedAdapter(std::shared_ptr<const std::vector<RowGroup>> groups, size_t count)
      : choices(count), groups_(std::move(groups)) {}

  std::optional<LinearPart> part(const Linear& base, at::ScalarType dtype) const override {
    if (groups_->size() > 1) return std::nullopt;
    const Adapter* only = choice(groups_->front().adapter);
    return only ? only->part(base, dtype) : bare(base).part(dtype);
  }
  Tensor forward(const Linear& base, const Tensor& x) const override {
    Tensor y = ops::empty({x.size(0), base.out()}, x.scalar_type(), x.device());
    for (const RowGroup& group : *groups_)
      y.index_copy_(0, group.rows, through(group.adapter, base, x.index_select(0, group.rows)));
    return y;
  }

  Tensor delta(const Linear& base) const override {
    fail(Code::kInternal, base.name, ": rows go through several adapters; there is no one change");
  }

  std::vector<std::shared_ptr<Adapter>> choices;

 private:
  static Linear bare(const Linear& base) { return {base.name, base.weight, base.bias, nullptr}; }
  const Adapter* choice(int64_t adapter) const {
    return adapter < 0 ? nullptr : choices[static_cast<size_t>(adapter)].get();
  }
  Tensor through(int64_t adapter, const Linear& base, const Tensor& x) const {
    Linear layer = bare(base);
    if (choice(adapter)) layer.adapter = choices[static_cast<size_t>(adapter)];
    return layer(x);
  }

  std::shared_ptr<const std::vector<RowGroup>> groups_;
};

}  // namespace

AdapterBank::AdapterBank(Model& model, const std::vector<NamedAdapter>& adapters)
    : stores_(adapters.size()), groups_(std::make_shared<std::vector<RowGroup>>()) {
  std::set<std::string> names;
  for (size_t i = 0; i < adapters.size(); ++i) {
    const std::string& name = adapters[i].name;
    if (name.empty() || name == "none")
      fail_usage("--adapter: ", name.empty() ? "an empty name" : "none is the base alone",
                 ", another name is wanted");
    if (!names.insert(name).second)
      fail_usage("--adapter: ", printable(name), ": there twice, NAME=DIR tells them apart");
    sets_.push_back(load_adapter(model, adapters[i].folder, &stores_[i]));
    take_off(sets_.back());
  }
}

void AdapterBank::install(Model& model, int64_t adapter) {
  for (const AdapterSet& other : sets_) take_off(other);
  if (adapter >= 0) return put_on(set(adapter));
  std::map<Linear*, std::shared_ptr<SwitchedAdapter>> layers;
  for (size_t i = 0; i < sets_.size(); ++i)
    for (const auto& layer : sets_[i].layers) {
      auto& switched = layers[layer.linear];
      if (!switched) switched = std::make_shared<SwitchedAdapter>(groups_, sets_.size());
      switched->choices[i] = layer.adapter;
    }
  for (Linear* linear : model.decoder.linears())
    if (const auto found = layers.find(linear); found != layers.end())
      linear->adapter = found->second;
}

void AdapterBank::choose(const std::vector<int64_t>& adapter_of_row, at::Device device) {
  std::map<int64_t, std::vector<int64_t>> rows;
  for (size_t i = 0; i < adapter_of_row.size(); ++i)
    rows[adapter_of_row[i]].push_back(static_cast<int64_t>(i));
  groups_->clear();
  for (const auto& [adapter, list] : rows)
    groups_->push_back({adapter, rows.size() == 1 ? Tensor() : ops::from_vector(list, device)});
}

}  // namespace ft
