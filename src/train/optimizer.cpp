#include "train/optimizer.h"

#include <cmath>

#include "base/error.h"
#include "base/seed.h"
#include "kernels/dispatch.h"
#include "kernels/mode.h"

namespace ft {
namespace {

MasterWeights parse_master(const std::string& name) {
  if (name == "kahan") return MasterWeights::kKahan;
  if (name == "stochastic") return MasterWeights::kStochastic;
  if (name == "float32") return MasterWeights::kFloat32;
  FT_INVARIANT(name == "none");
  return MasterWeights::kNone;
}

}  // namespace

bool decays(const std::string& name) {
  return !name.ends_with("norm.weight") && !name.ends_with(".bias");
}

Optimizer::Optimizer(std::vector<Param*> params, const TrainConfig& config, uint64_t run_seed)
    : config_(config), seed_(run_seed) {
  for (Param* p : params) {
    const Tensor& w = p->value;
    const auto zeros = [&](at::ScalarType dtype) {
      return ops::zeros(w.sizes(), dtype, w.device());
    };
    Slot slot{p,  decays(p->name),     {}, zeros(at::kFloat), zeros(at::kFloat),
              {}, MasterWeights::kNone};
    if (w.scalar_type() == at::kBFloat16) slot.master = parse_master(config.master_weights);
    if (slot.master == MasterWeights::kKahan) slot.extra = zeros(w.scalar_type());
    if (slot.master == MasterWeights::kFloat32) slot.extra = w.detach().to(at::kFloat).clone();
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::collect() {
  for (Slot& slot : slots_) {
    Tensor& fresh = slot.param->value.mutable_grad();
    if (!fresh.defined()) continue;
    if (!slot.grad.defined()) {
      slot.grad = fresh.contiguous();
    } else {
      if (slot.grad.scalar_type() != at::kFloat) slot.grad = slot.grad.to(at::kFloat);
      slot.grad.add_(fresh);
    }
    fresh = Tensor();
  }
}

double Optimizer::gradient_norm() const {
  double total = 0;
  for (const Slot& slot : slots_) {
    if (!slot.grad.defined()) continue;
    if (use_cpu_loops(slot.grad)) {
      cpu::with_type(slot.grad, [&](auto* t) {
        using T = std::remove_pointer_t<decltype(t)>;
        total += cpu::sum_of_squares(cpu::data<T>(slot.grad), slot.grad.numel());
      });
    } else {
      total += slot.grad.to(at::kDouble).square().sum().item().toDouble();
    }
  }
  return std::sqrt(total);
}

void Optimizer::update(double learning_rate, double grad_scale, int64_t step) {
  uint64_t index = 0;
  for (Slot& slot : slots_) {
    ++index;
    if (!slot.grad.defined()) continue;
    AdamwSettings s{learning_rate * slot.param->rate_factor,
                    config_.betas.first,
                    config_.betas.second,
                    config_.eps,
                    slot.decays ? config_.weight_decay : 0.0,
                    step,
                    grad_scale,
                    slot.master,
                    0};
    s.rounding_key = mix64(seed(seed_, static_cast<uint64_t>(step), Stream::kRounding) ^ index);
    adamw(slot.param->value.detach(), slot.grad, slot.exp_avg, slot.exp_avg_sq, slot.extra, s);
  }
  drop_gradients();
}

void Optimizer::drop_gradients() {
  for (Slot& slot : slots_) {
    slot.grad = Tensor();
    slot.param->value.mutable_grad() = Tensor();
  }
}

Tensor Optimizer::gradient(const std::string& name) const {
  for (const Slot& slot : slots_)
    if (slot.param->name == name) return slot.grad;
  return {};
}

std::vector<std::pair<std::string, Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, Tensor>> all;
  for (const Slot& slot : slots_) {
    all.emplace_back(slot.param->name + ".exp_avg", slot.exp_avg);
    all.emplace_back(slot.param->name + ".exp_avg_sq", slot.exp_avg_sq);
    if (slot.master == MasterWeights::kKahan)
      all.emplace_back(slot.param->name + ".compensation", slot.extra);
    if (slot.master == MasterWeights::kFloat32)
      all.emplace_back(slot.param->name + ".master", slot.extra);
  }
  return all;
}

}  // namespace ft
