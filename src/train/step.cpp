#include "train/step.h"

#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/seed.h"
#include "kernels/autograd.h"
#include "kernels/profile.h"
#include "objectives/sft.h"

namespace ft {
namespace {

void set_dropout(AdapterSet* adapters, uint64_t key) {
  if (adapters) adapters->state->dropout_key = key;
}

uint64_t noise_key(const RunConfig& config, int64_t index, uint64_t micro) {
  return mix64(seed(static_cast<uint64_t>(config.seed), static_cast<uint64_t>(index),
                    Stream::kNoise) +
               micro) |
         1;
}

[[noreturn]] void refuse(const StepResult& r, int64_t index, Optimizer& optimizer) {
  optimizer.drop_gradients();
  if (optimizer.refused())
    fail(Code::kRun, "step ", index + 1, ": the gradient of ", optimizer.refused()->name,
         " is not finite (", r.targets,
         " target tokens); with train.fused_update other tensors were updated before it came, and "
         "the weights of this step are lost; a lower train.learning_rate, dtype: float32 or a look "
         "at the data of this step may help");
  fail(Code::kRun, "step ", index + 1, ": ", std::isfinite(r.loss) ? "gradient norm" : "loss",
       " is ", std::isfinite(r.loss) ? r.grad_norm : r.loss, " (", r.targets,
       " target tokens); the step was not applied; a lower "
       "train.learning_rate, dtype: float32 or a look at the data of this step may help");
}

/// Forward and backward over one micro-batch, the `micro`-th from 1. `before_backward` gets the sum
/// of its losses.
void pass(const StepContext& c, const Batch& batch, int64_t index, uint64_t micro, double share,
          const std::function<void(const Tensor&)>& before_backward) {
  const uint64_t step_key =
      seed(static_cast<uint64_t>(c.config.seed), static_cast<uint64_t>(index), Stream::kDropout);
  set_dropout(c.adapters, mix64(step_key + micro) | 1);
  c.model.decoder.noise_key = noise_key(c.config, index, micro);
  const Tensor loss = [&] {
    const ProfileScope phase("forward", true);
    return sft_loss(c.model, batch);
  }();
  const ProfileScope phase("backward", true);
  before_backward(loss.detach().to(at::kDouble));
  run_backward(loss.mul(share));
  set_dropout(c.adapters, 0);
  c.model.decoder.noise_key = 0;
}

bool is_finite(const Tensor& t) {
  return !t.defined() || t.isfinite().all().item().toBool();
}

}  // namespace

Tensor clip_scale(const Tensor& loss, const Tensor& norm, double max_norm) {
  const at::NoGradGuard guard;
  const Tensor nothing = norm.add(loss).mul(0);  // or NaN
  if (max_norm <= 0) return nothing.add(1);
  return ops::full({}, max_norm, at::kDouble, norm.device())
      .div(norm.add(1e-6))
      .clamp_max(1)
      .add(nothing);
}

StepInFlight begin_step(const StepContext& c, const std::vector<Batch>& batches, int64_t index,
                        double learning_rate) {
  StepInFlight step{.index = index, .counts = {}, .numbers = {}};
  // 1. Count the targets of the whole step: every micro-batch is divided by the same number.
  for (const Batch& batch : batches) {
    step.counts.tokens += batch.num_tokens();
    step.counts.targets += batch.num_targets();
  }
  if (step.counts.targets == 0)
    fail(Code::kRun, "step ", index + 1, ": no token to train on in its batches");
  // 2. Forward and backward, micro-batch by micro-batch.
  const double share = 1.0 / static_cast<double>(step.counts.targets);
  const bool is_fused = c.config.train.fused_update;
  FT_INVARIANT(!is_fused || batches.size() == 1);
  uint64_t micro = 0;
  std::vector<Tensor> losses;
  for (const Batch& batch : batches) {
    pass(c, batch, index, ++micro, share, [&](const Tensor& loss) {
      losses.push_back(loss);
      if (is_fused) c.optimizer.begin_fused(learning_rate, loss, index + 1);
    });
    if (!is_fused) c.optimizer.collect();
  }
  const ProfileScope phase("optimizer", true);
  // 3. Clip by the norm of the whole gradient and update, unless a number is not finite.
  step.num_losses = losses.size();
  if (is_fused) {
    ops::append(losses, c.optimizer.end_fused());
  } else {
    Tensor loss = losses[0];
    for (size_t i = 1; i < losses.size(); ++i) loss = loss.add(losses[i]);
    losses.push_back(c.optimizer.gradient_norm());
    c.optimizer.update(learning_rate, clip_scale(loss, losses.back(), c.config.train.max_grad_norm),
                       index + 1);
  }
  if (c.adapters) ++c.adapters->state->num_updates;
  step.numbers = OnTheWay(losses);
  return step;
}

StepResult finish_step(const StepContext& c, StepInFlight& step) {
  const std::vector<double> numbers = step.numbers.wait();
  StepResult result = step.counts;
  const double share = 1.0 / static_cast<double>(result.targets);
  const auto behind_losses = numbers.begin() + static_cast<std::ptrdiff_t>(step.num_losses);
  for (auto loss = numbers.begin(); loss != behind_losses; ++loss) result.loss += *loss * share;
  // Where the loss is not finite nothing was updated.
  if (!c.config.train.fused_update) {
    result.grad_norm = *behind_losses;
  } else if (std::isfinite(result.loss)) {
    result.grad_norm = c.optimizer.fused_norm({behind_losses, numbers.end()});
  }
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm))
    refuse(result, step.index, c.optimizer);
  return result;
}

StepResult train_step(const StepContext& c, const std::vector<Batch>& batches, int64_t index,
                      double learning_rate) {
  StepInFlight step = begin_step(c, batches, index, learning_rate);
  return finish_step(c, step);
}

std::string first_not_finite(const StepContext& c, const std::vector<Batch>& batches,
                             int64_t index) {
  for (const Param& p : c.model.params.all())
    if (!is_finite(p.value) ||
        (p.quantized && !(is_finite(p.quantized->absmax) && is_finite(p.quantized->nested_absmax))))
      return p.name;
  if (c.config.train.fused_update) return "";  // the pass would update
  int64_t targets = 0;
  for (const Batch& batch : batches) targets += batch.num_targets();
  const double share = 1.0 / static_cast<double>(targets);
  uint64_t micro = 0;
  std::string bad;
  for (const Batch& batch : batches) {
    bool has_loss = false;
    pass(c, batch, index, ++micro, share, [&](const Tensor& loss) { has_loss = is_finite(loss); });
    if (!has_loss) break;  // so no gradient of it is
    c.optimizer.collect();
    for (const Param* p : c.model.params.trainable())
      if (bad.empty() && !is_finite(c.optimizer.gradient(p->name)))
        bad = "the gradient of " + p->name;
  }
  c.optimizer.drop_gradients();
  return bad;
}

}  // namespace ft
