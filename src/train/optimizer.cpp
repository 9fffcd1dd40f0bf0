#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/seed.h"
#include "kernels/autograd.h"
#include "kernels/dispatch.h"
#include "kernels/dynamic_map.h"

namespace ft {
namespace {

using Kind = StateTensors::Kind;

/// Fewer elements, and vectors, keep float32 moments (bitsandbytes' rule): they cost next to
/// nothing, and norms and biases are sensitive.
constexpr int64_t kMinQuantized = 4096;
/// Elements of a paged state that are in memory at once; whole blocks of 8-bit states, whole pages.
constexpr int64_t kPagedPiece = 1 << 20;

MasterWeights parse_master(const std::string& name) {
  if (name == "kahan") return MasterWeights::kKahan;
  if (name == "stochastic") return MasterWeights::kStochastic;
  if (name == "float32") return MasterWeights::kFloat32;
  FT_INVARIANT(name == "none");
  return MasterWeights::kNone;
}

/// float64 scalar on x's device.
Tensor sum_of_squares(const Tensor& x) {
  if (!x.is_cpu()) return ops::sum_of_squares({x});
  if (!use_cpu_loops(x)) return x.to(at::kDouble).square().sum();
  double total = 0;
  cpu::with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    total = cpu::sum_of_squares(cpu::data<T>(x), x.numel());
  });
  return ops::full({}, total, at::kDouble);
}

/// Elements [begin, begin + count) of a parameter's tensors, whose scales stand for blocks.
StateTensors piece_of(const StateTensors& state, int64_t begin, int64_t count) {
  StateTensors piece;
  for (size_t i = 0; i < state.of.size(); ++i) {
    if (!state.of[i].defined()) continue;
    const bool is_scale = i == Kind::kExpAvgScale || i == Kind::kExpAvgSqScale;
    const int64_t per = is_scale ? kQuantizedBlock : 1;
    piece.of[i] = state.of[i].view(-1).narrow(0, begin / per, (count + per - 1) / per);
  }
  return piece;
}

}  // namespace

bool decays(const std::string& name) {
  return !name.ends_with("norm.weight") && !name.ends_with(".bias");
}

Optimizer::Optimizer(std::vector<Param*> params, const TrainConfig& config, uint64_t run_seed,
                     const std::filesystem::path& folder)
    : config_(config), seed_(run_seed) {
  const at::Device device = params.empty() ? at::Device(at::kCPU) : params[0]->value.device();
  if (config.optimizer.starts_with("paged_")) {
    if (device.is_cuda()) {
      staging_.emplace(device);
    } else {
      pages_.emplace(folder);
    }
  }
  if (config.optimizer.ends_with("8bit")) tables_ = make_dynamic_tables(device);
  for (Param* p : params) {
    const bool is_bfloat16 = p->value.scalar_type() == at::kBFloat16;
    slots_.push_back(
        {.param = p,
         .decays = decays(p->name),
         .master = is_bfloat16 ? parse_master(config.master_weights) : MasterWeights::kNone,
         .grad = {}});
    add_state(slots_.back());
  }
  if (!config.fused_update) return;
  for (size_t i = 0; i < slots_.size(); ++i)
    on_gradient(slots_[i].param->value, [this, i] { apply_fused(i); });
}

Optimizer::~Optimizer() {
  if (!config_.fused_update) return;
  for (const Slot& slot : slots_) on_gradient(slot.param->value, {});
}

void Optimizer::add_state(Slot& slot) {
  const Tensor& w = slot.param->value;
  const auto zeros = [&](at::IntArrayRef sizes, at::ScalarType dtype) {
    if (pages_) return pages_->zeros(sizes, dtype);
    return staging_ ? DeviceStaging::zeros(sizes, dtype) : ops::zeros(sizes, dtype, w.device());
  };
  const bool is_quantized = tables_.defined() && w.dim() > 1 && w.numel() >= kMinQuantized;
  const auto moments = is_quantized ? at::kByte : at::kFloat;
  slot.state[Kind::kExpAvg] = zeros(w.sizes(), moments);
  slot.state[Kind::kExpAvgSq] = zeros(w.sizes(), moments);
  if (is_quantized) {
    const int64_t blocks = (w.numel() + kQuantizedBlock - 1) / kQuantizedBlock;
    slot.state[Kind::kExpAvgScale] = zeros({blocks}, at::kFloat);
    slot.state[Kind::kExpAvgSqScale] = zeros({blocks}, at::kFloat);
  }
  Tensor& extra = slot.state[Kind::kExtra];
  if (slot.master == MasterWeights::kKahan) extra = zeros(w.sizes(), w.scalar_type());
  if (slot.master != MasterWeights::kFloat32) return;
  extra = zeros(w.sizes(), at::kFloat);
  extra.copy_(w.detach());
  release(extra.const_data_ptr(), extra.nbytes());
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

Tensor Optimizer::gradient_norm() const {
  std::vector<Tensor> grads;
  for (const Slot& slot : slots_)
    if (slot.grad.defined()) grads.push_back(slot.grad);
  if (!grads.empty() && !grads[0].is_cpu()) return ops::sum_of_squares(grads).sqrt();
  double total = 0;
  for (const Tensor& grad : grads) total += sum_of_squares(grad).item().toDouble();
  return ops::full({}, std::sqrt(total), at::kDouble);
}

bool Optimizer::take_scale(const Tensor& scale, bool by_kernels) {
  if (!poison_.defined()) poison_ = ops::zeros({}, at::kDouble, scale.device());
  poison_.add_(scale.mul(0));
  const Tensor all = scale.add(poison_);
  device_scale_ = by_kernels ? all : Tensor();
  grad_scale_ = by_kernels ? 1 : all.item().toDouble();
  return !std::isnan(grad_scale_);
}

void Optimizer::update(double learning_rate, const Tensor& grad_scale, int64_t step) {
  const at::NoGradGuard guard;
  rate_ = learning_rate;
  step_ = step;
  const bool by_kernels = std::ranges::all_of(slots_, [](const Slot& slot) {
    return !slot.grad.defined() || cuda::has_adamw_kernel(slot.param->value, slot.grad);
  });
  if (take_scale(grad_scale, by_kernels)) {
    std::vector<AdamwTensors> plain;  // all at once
    for (size_t i = 0; i < slots_.size(); ++i) {
      const Slot& slot = slots_[i];
      if (!slot.grad.defined()) continue;
      if (pages_ || staging_ || slot.state[Kind::kExpAvgScale].defined()) {
        update_slot(i, i + 1);
      } else {
        plain.push_back({slot.param->value.detach(), slot.grad, slot.state[Kind::kExpAvg],
                         slot.state[Kind::kExpAvgSq], slot.state[Kind::kExtra], settings_of(i)});
      }
    }
    adamw(plain);
  }
  drop_gradients();
}

void Optimizer::begin_fused(double learning_rate, const Tensor& loss, int64_t step) {
  const at::NoGradGuard guard;
  rate_ = learning_rate;
  step_ = step;
  refused_ = nullptr;
  order_.clear();
  for (Slot& slot : slots_) slot.square_sum = Tensor();
  take_scale(loss.to(at::kDouble).mul(0).add(1), /*by_kernels=*/!loss.is_cpu());
}

void Optimizer::apply_fused(size_t index) {
  const at::NoGradGuard guard;
  Slot& slot = slots_[index];
  FT_INVARIANT(!slot.square_sum.defined());  // once a step: the gradient was complete
  slot.grad = slot.param->value.mutable_grad().contiguous();
  slot.param->value.mutable_grad() = Tensor();
  slot.square_sum = sum_of_squares(slot.grad);
  order_.push_back(index);
  if (take_scale(slot.square_sum.mul(0).add(1),
                 cuda::has_adamw_kernel(slot.param->value, slot.grad)))
    update_slot(index, index - 1);  // the backward pass comes from the end
  slot.grad = Tensor();
}

std::vector<Tensor> Optimizer::end_fused() {
  std::vector<Tensor> sums;
  for (const Slot& slot : slots_)
    sums.push_back(slot.square_sum.defined()
                       ? slot.square_sum
                       : ops::zeros({}, at::kDouble, slot.param->value.device()));
  return sums;
}

double Optimizer::fused_norm(const std::vector<double>& sums) {
  for (const size_t index : order_)
    if (!refused_ && !std::isfinite(sums[index])) refused_ = slots_[index].param;
  double total = 0;
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

AdamwSettings Optimizer::settings_of(size_t index) const {
  const Slot& slot = slots_[index];
  return {rate_ * slot.param->rate_factor,
          config_.betas.first,
          config_.betas.second,
          config_.eps,
          slot.decays ? config_.weight_decay : 0.0,
          step_,
          grad_scale_,
          slot.master,
          mix64(seed(seed_, static_cast<uint64_t>(step_), Stream::kRounding) ^ (index + 1)),
          0,
          cpu::data<double>(device_scale_)};
}

/// Applies the gradient of a slot; `next` is the one that is likely to follow, or none.
void Optimizer::update_slot(size_t index, size_t next) {
  Slot& slot = slots_[index];
  const AdamwSettings s = settings_of(index);
  if (pages_) return update_pieces(slot, s);
  if (!staging_) return update_tensors(slot.param->value.detach(), slot.grad, slot.state, s);
  const StateTensors state = staging_->take(index, slot.state);
  if (next < slots_.size()) staging_->prefetch(next, slots_[next].state);
  update_tensors(slot.param->value.detach(), slot.grad, state, s);
  staging_->give_back(slot.state, state);
}

void Optimizer::update_pieces(Slot& slot, AdamwSettings s) {
  const Tensor param = slot.param->value.detach().view(-1), grad = slot.grad.view(-1);
  for (int64_t begin = 0; begin < param.numel(); begin += kPagedPiece) {
    const int64_t count = std::min(kPagedPiece, param.numel() - begin);
    const StateTensors state = piece_of(slot.state, begin, count);
    s.first_element = begin;
    update_tensors(param.narrow(0, begin, count), grad.narrow(0, begin, count), state, s);
    for (const Tensor& t : state.of)
      if (t.defined()) release(t.const_data_ptr(), t.nbytes());
  }
}

void Optimizer::update_tensors(const Tensor& param, const Tensor& grad, const StateTensors& state,
                               const AdamwSettings& s) const {
  const Tensor &m = state[Kind::kExpAvg], &v = state[Kind::kExpAvgSq], &extra = state[Kind::kExtra];
  const Tensor &m_scale = state[Kind::kExpAvgScale], &v_scale = state[Kind::kExpAvgSqScale];
  if (m_scale.defined()) {
    adamw8bit(param, grad, {m, v, m_scale, v_scale, tables_}, extra, s);
  } else {
    adamw(param, grad, m, v, extra, s);
  }
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
  if (staging_) staging_->wait();
  std::vector<std::pair<std::string, Tensor>> all;
  for (const Slot& slot : slots_) {
    const char* names[] = {".exp_avg", ".exp_avg_sq", ".exp_avg_scale", ".exp_avg_sq_scale",
                           slot.master == MasterWeights::kKahan ? ".compensation" : ".master"};
    for (size_t i = 0; i < slot.state.of.size(); ++i)
      if (slot.state.of[i].defined())
        all.emplace_back(slot.param->name + names[i], slot.state.of[i]);
  }
  return all;
}

void Optimizer::release(const void* data, size_t size) const {
  if (pages_) release_pages(data, size);
}

}  // namespace ft
