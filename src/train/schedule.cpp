#include "train/schedule.h"

#include <algorithm>
#include <cmath>

namespace ft {

double learning_rate_at(const TrainConfig& config, double peak, int64_t step, int64_t num_steps) {
  const double warmup = config.warmup_steps < 1
                            ? std::ceil(config.warmup_steps * static_cast<double>(num_steps))
                            : config.warmup_steps;
  const auto at = static_cast<double>(step);
  if (at < warmup) return peak * at / warmup;
  // Beyond the end, where num_steps was an estimate, the rate stays what it was there.
  const double progress =
      std::min(1.0, (at - warmup) / std::max(1.0, static_cast<double>(num_steps) - warmup));
  if (config.lr_scheduler == "linear") return peak * std::max(0.0, 1 - progress);
  if (config.lr_scheduler == "cosine")
    return peak * std::max(0.0, 0.5 * (1 + std::cos(M_PI * progress)));
  return peak;
}

}  // namespace ft
