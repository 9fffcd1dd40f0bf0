#include "train/step.h"

#include <cmath>

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

}  // namespace

StepResult train_step(const StepContext& c, const std::vector<Batch>& batches, int64_t index,
                      double learning_rate) {
  StepResult result;
  // 1. Count the targets of the whole step: every micro-batch is divided by the same number.
  for (const Batch& batch : batches) {
    result.tokens += batch.num_tokens();
    result.targets += batch.num_targets();
  }
  if (result.targets == 0)
    fail(Code::kRun, "step ", index + 1, ": no token to train on in its batches");
  // 2. Forward and backward, micro-batch by micro-batch.
  const double share = 1.0 / static_cast<double>(result.targets);
  const bool is_fused = c.config.train.fused_update;
  FT_INVARIANT(!is_fused || batches.size() == 1);
  uint64_t micro = 0;
  for (const Batch& batch : batches) {
    const uint64_t step_key =
        seed(static_cast<uint64_t>(c.config.seed), static_cast<uint64_t>(index), Stream::kDropout);
    set_dropout(c.adapters, mix64(step_key + ++micro) | 1);
    c.model.decoder.noise_key = noise_key(c.config, index, micro);
    const Tensor loss = [&] {
      const ProfileScope phase("forward", true);
      return sft_loss(c.model, batch);
    }();
    const ProfileScope phase("backward", true);
    if (is_fused) {  // of one micro-batch: its loss is that of the step, and must be known now
      result.loss = loss.item().toDouble() * share;
      if (!std::isfinite(result.loss)) refuse(result, index, c.optimizer);
      c.optimizer.begin_fused(learning_rate, index + 1);
    }
    run_backward(loss.mul(share));
    if (is_fused) continue;
    c.optimizer.collect();
    result.loss += loss.item().toDouble() * share;
  }
  set_dropout(c.adapters, 0);
  c.model.decoder.noise_key = 0;
  const ProfileScope phase("optimizer", true);
  // 3. Norm of the whole gradient; refuse what is not finite.
  result.grad_norm = is_fused ? c.optimizer.end_fused() : c.optimizer.gradient_norm();
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm))
    refuse(result, index, c.optimizer);
  if (is_fused) return result;
  // 4. Clip (torch: at most max / (norm + 1e-6)) and update.
  const double limit = c.config.train.max_grad_norm;
  const double scale = limit > 0 ? std::min(1.0, limit / (result.grad_norm + 1e-6)) : 1.0;
  c.optimizer.update(learning_rate, scale, index + 1);
  if (c.adapters) ++c.adapters->state->num_updates;
  return result;
}

}  // namespace ft
