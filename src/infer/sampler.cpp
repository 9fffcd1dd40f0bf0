#include "infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace ft {
namespace {

void penalise(std::vector<float>& logits, const std::vector<int32_t>& seen, double penalty) {
  const auto factor = static_cast<float>(penalty);
  for (const int32_t id : std::set<int32_t>(seen.begin(), seen.end())) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / factor : logit * factor;
  }
}

}  // namespace

int32_t sample_token(std::vector<float>& logits, const std::vector<int32_t>& seen,
                     const SamplingOptions& o, Rng& rng) {
  if (o.repetition_penalty != 1.0) penalise(logits, seen, o.repetition_penalty);
  if (o.temperature <= 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t kept =
      o.top_k > 0 ? std::min(static_cast<size_t>(o.top_k), order.size()) : order.size();
  const auto higher = [&](int32_t a, int32_t b) {
    const float la = logits[static_cast<size_t>(a)], lb = logits[static_cast<size_t>(b)];
    return la != lb ? la > lb : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(kept), order.end(), higher);
  order.resize(kept);
  std::vector<double> p;
  const double top = logits[static_cast<size_t>(order[0])];
  for (const int32_t id : order)
    p.push_back(std::exp((logits[static_cast<size_t>(id)] - top) / o.temperature));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  // top-p keeps the smallest set that reaches the share; min-p drops what is far below the best.
  // One token always stays.
  size_t count = 0;
  double mass = 0;
  while (count < p.size() && (count == 0 || (mass < o.top_p * total && p[count] >= o.min_p * p[0])))
    mass += p[count++];
  double draw = rng.uniform() * mass;
  for (size_t i = 0; i < count; ++i) {
    draw -= p[i];
    if (draw < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace ft
