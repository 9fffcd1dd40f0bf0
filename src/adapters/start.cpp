// The decompositions run in float32 on the host whatever the model's dtype and device: PEFT's
// choice, and on one machine and thread count the same bits each time, which a resumed run, whose
// base they change, relies on.
#include "adapters/start.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/seed.h"

namespace ft {
namespace {

Tensor random_a(const std::string& init, int64_t rank, int64_t in, uint64_t seed) {
  Tensor a = ops::empty({rank, in}, at::kFloat);
  auto* out = static_cast<float*>(a.data_ptr());
  Rng rng(seed);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  for (int64_t i = 0; i < a.numel(); ++i) {
    if (init == "gaussian") {  // Box-Muller
      const double radius = std::sqrt(-2 * std::log(1 - rng.uniform()));
      out[i] = static_cast<float>(radius * std::cos(2 * M_PI * rng.uniform()) /
                                  static_cast<double>(rank));
    } else {
      FT_INVARIANT(init == "default");
      out[i] = static_cast<float>((2 * rng.uniform() - 1) * bound);
    }
  }
  return a;
}

}  // namespace

bool start_changes_base(const std::string& init) {
  return init == "pissa" || init == "olora";
}

AdapterStart adapter_start(const std::string& init, const Linear& base, int64_t rank, double scale,
                           uint64_t seed) {
  const int64_t out = base.out(), in = base.in_features();
  if (base.weight->value.defined() && base.weight->value.is_meta())  // an outline has no values
    return {ops::empty({rank, in}, at::kFloat, at::kMeta),
            ops::empty({out, rank}, at::kFloat, at::kMeta)};
  if (!start_changes_base(init))
    return {random_a(init, rank, in, seed), ops::zeros({out, rank}, at::kFloat)};
  if (base.weight->quantized)
    fail_usage("lora.init: ", init,
               ": changes the base weights, which are in four bits here; default "
               "or gaussian, or method: lora is wanted");
  if (rank > std::min(out, in))
    fail_usage("lora.init: ", init, ": rank ", rank, " is more than the ", std::min(out, in),
               " that ", base.name, " [", out, ", ", in, "] has; a smaller lora.r is wanted");
  const Tensor w = base.weight->value.detach().to(at::kCPU, at::kFloat);
  if (init == "olora") {
    const auto [q, r] = ops::qr(w);
    return {r.narrow(0, 0, rank).contiguous(), q.narrow(1, 0, rank).contiguous(), true};
  }
  const auto [u, s, vt] = ops::svd(w);
  const Tensor root = s.narrow(0, 0, rank).div(scale).sqrt();
  return {vt.narrow(0, 0, rank).mul(root.unsqueeze(1)).contiguous(),
          u.narrow(1, 0, rank).mul(root).contiguous(), true};
}

}  // namespace ft
