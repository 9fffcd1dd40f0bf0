#include "kernels/ledger.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"

namespace ft {
namespace {

Ledger* open_ledger = nullptr;

double bytes_of(const Tensor& t) {
  return static_cast<double>(t.numel()) * static_cast<double>(t.element_size());
}

/// An operator being run: it is a kernel of its own unless it calls one that is.
struct Running : at::ObserverContext {
  size_t calls_before = 0;     ///< kernels seen by then
  std::vector<Tensor> inputs;  ///< the observer gives them at the start only
};

template <typename Values>
std::vector<Tensor> tensors_of(const Values& values) {
  std::vector<Tensor> all;
  for (const c10::IValue& v : values) {
    if (v.isTensor() && v.toTensor().defined()) all.push_back(v.toTensor());
    if (v.isTensorList())
      for (const Tensor& t : v.toTensorVector())
        if (t.defined()) all.push_back(t);
  }
  return all;
}

bool is_product(std::string_view name) {
  constexpr std::array<std::string_view, 5> kNames = {"aten::mm", "aten::addmm", "aten::bmm",
                                                      "aten::baddbmm", "aten::addmm_"};
  return std::ranges::find(kNames, name) != kNames.end();
}

/// y [.., rows, columns], sums of `inner` products.
void as_product(Launches& l, const Tensor& y, int64_t inner) {
  l.kind = LaunchKind::kProduct;
  l.flops = 2 * static_cast<double>(y.numel()) * static_cast<double>(inner);
  l.shape =
      std::to_string(y.size(-2)) + "x" + std::to_string(y.size(-1)) + "x" + std::to_string(inner);
}

bool only_writes(std::string_view name) {
  return name == "aten::copy_" || name == "aten::zero_" || name == "aten::fill_";
}

/// Operators without a kernel, whose outputs are fresh memory.
bool only_allocates(std::string_view name) {
  return name.starts_with("aten::empty") || name.starts_with("aten::new_empty") ||
         name == "aten::set_" || name.starts_with("aten::resize");
}

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction& f) {
  auto running = std::make_unique<Running>();
  running->calls_before = open_ledger ? open_ledger->num_calls() : 0;
  running->inputs = tensors_of(f.inputs());
  return running;
}

void leave(const at::RecordFunction& f, at::ObserverContext* context) {
  const std::string_view name = f.name();
  if (!open_ledger || !name.starts_with("aten::")) return;
  const auto& running = *static_cast<Running*>(context);
  if (open_ledger->num_calls() != running.calls_before) return;  // made of others
  const std::vector<Tensor>&inputs = running.inputs, outputs = tensors_of(f.outputs());
  const bool is_meta = std::ranges::any_of(inputs, [](const Tensor& t) { return t.is_meta(); }) ||
                       std::ranges::any_of(outputs, [](const Tensor& t) { return t.is_meta(); });
  if (!is_meta || only_allocates(name)) return;
  // A view: its storage is an input's, and nothing was written to it.
  const bool writes =
      name.ends_with('_') || f.operator_name()->overload_name.find("out") != std::string::npos;
  if (!writes && !outputs.empty() && std::ranges::all_of(outputs, [&](const Tensor& out) {
        return std::ranges::any_of(inputs, [&](const Tensor& in) { return in.is_alias_of(out); });
      }))
    return;
  Launches l{.name = std::string(name.substr(6)), .shape = {}, .phase = {}, .count = 1};
  // add_ reads what it writes to; copy_ and the like, and what is made in a given place, do not.
  const bool reads_target = name.ends_with('_') && !only_writes(name);
  for (const Tensor& t : inputs)
    if (!writes || reads_target || t.unsafeGetTensorImpl() != outputs[0].unsafeGetTensorImpl())
      l.bytes += bytes_of(t);
  for (const Tensor& t : outputs) l.bytes += bytes_of(t);
  if (is_product(name)) {
    const size_t left = name.find("add") == std::string_view::npos ? 0 : 1;
    as_product(l, outputs[0], inputs[left].size(-1));
  }
  open_ledger->add(std::move(l));
}

}  // namespace

Ledger::Ledger() {
  FT_INVARIANT(!open_ledger);
  open_ledger = this;
  observer_ = at::addThreadLocalCallback(at::RecordFunctionCallback(enter, leave)
                                             .needsInputs(true)
                                             .needsOutputs(true)
                                             .scopes({at::RecordScope::FUNCTION}));
}

Ledger::~Ledger() {
  at::removeCallback(observer_);
  open_ledger = nullptr;
}

void Ledger::add(Launches l) {
  ++num_calls_;
  l.phase = phase_;
  const auto same = std::ranges::find_if(entries_, [&](const Launches& e) {
    return e.name == l.name && e.shape == l.shape && e.phase == l.phase && e.kind == l.kind;
  });
  if (same == entries_.end()) {
    entries_.push_back(std::move(l));
    return;
  }
  same->count += l.count;
  same->flops += l.flops;
  same->bytes += l.bytes;
}

bool is_noted(const Tensor& x) {
  return open_ledger && x.is_meta();
}

void note_product(const char* name, const std::vector<Tensor>& operands, LaunchKind kind) {
  FT_INVARIANT(open_ledger);
  Launches l{.name = name, .shape = {}, .phase = {}, .count = 1};
  for (const Tensor& t : operands) l.bytes += bytes_of(t);
  as_product(l, operands.back(), operands.front().size(-1));
  l.kind = kind;
  open_ledger->add(std::move(l));
}

void note_launch(const char* name, LaunchKind kind, double flops, at::TensorList touched,
                 int64_t count) {
  FT_INVARIANT(open_ledger);
  Launches l{.name = name, .shape = {}, .kind = kind, .phase = {}, .count = count, .flops = flops};
  for (const Tensor& t : touched)
    if (t.defined()) l.bytes += bytes_of(t);
  open_ledger->add(std::move(l));
}

}  // namespace ft
