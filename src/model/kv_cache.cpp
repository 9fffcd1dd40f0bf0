#include "model/kv_cache.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/attention.h"
#include "kernels/dispatch.h"

namespace ft {
namespace {

/// New tokens q [T, H, D] at positions `seen` and on, keys and values [K, L, D] from position
/// `first` on -> [T, H, D].
Tensor attend_cached(const Tensor& q, const Tensor& keys, const Tensor& values, int64_t seen,
                     int64_t first, const AttentionSettings& settings) {
  const int64_t T = q.size(0), L = keys.size(1);
  OptTensor visible;  // one new token sees all that it is given
  if (T > 1 || settings.softcap != 0)
    visible = visible_keys(seen, T, first, L, settings.window, q.device());
  if (settings.softcap != 0)
    return attend_plainly(q, keys.transpose(0, 1), values.transpose(0, 1), *visible, settings);
  return at::_ops::scaled_dot_product_attention::call(q.transpose(0, 1).unsqueeze(0),
                                                      keys.unsqueeze(0), values.unsqueeze(0),
                                                      visible, 0.0, false, settings.scale, true)
      .squeeze(0)
      .transpose(0, 1);
}

/// The first key that a new token after `seen` others sees, and of several the first one does.
int64_t first_seen(int64_t seen, const AttentionSettings& settings) {
  return settings.window == 0 ? 0 : std::max<int64_t>(0, seen + 1 - settings.window);
}

}  // namespace

KvCache::KvCache(const ModelSpec& spec, int64_t num_sequences, int64_t capacity,
                 at::ScalarType dtype, at::Device device)
    : capacity_(capacity), lengths_(static_cast<size_t>(num_sequences), 0) {
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    const std::vector<int64_t> sizes = {num_sequences, spec.num_kv_heads, capacity, spec.head_dim};
    keys_.push_back(ops::empty(sizes, dtype, device));
    values_.push_back(ops::empty(sizes, dtype, device));
  }
}

Tensor KvCache::attend(int64_t layer, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Documents& documents, const AttentionSettings& settings) {
  const auto index = static_cast<size_t>(layer);
  const bool fresh =
      std::all_of(lengths_.begin(), lengths_.end(), [](int64_t n) { return n == 0; });
  Tensor out = ops::empty_like(q);
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t begin = documents.bounds[s], T = documents.bounds[s + 1] - begin,
                  seen = lengths_[s];
    if (T == 0) continue;
    FT_INVARIANT(seen + T <= capacity_);
    const auto sequence = static_cast<int64_t>(s);
    if (!fresh && T == 1 && use_cpu_loops(q) && use_cpu_loops(k) && use_cpu_loops(v) &&
        keys_[index].scalar_type() == q.scalar_type()) {
      attend_token(layer, sequence, q.narrow(0, begin, 1), k.narrow(0, begin, 1),
                   v.narrow(0, begin, 1), out.narrow(0, begin, 1), settings);
      continue;
    }
    const Tensor all_keys = keys_[index].select(0, sequence);  // [K, capacity, D]
    const Tensor all_values = values_[index].select(0, sequence);
    all_keys.narrow(1, seen, T).copy_(k.narrow(0, begin, T).transpose(0, 1));
    all_values.narrow(1, seen, T).copy_(v.narrow(0, begin, T).transpose(0, 1));
    if (fresh) continue;
    const int64_t first = first_seen(seen, settings);
    const Tensor keys = all_keys.narrow(1, first, seen + T - first);
    const Tensor values = all_values.narrow(1, first, seen + T - first);
    out.narrow(0, begin, T)
        .copy_(attend_cached(q.narrow(0, begin, T), keys, values, seen, first, settings));
  }
  return fresh ? attention(q, k, v, documents, settings) : out;
}

void KvCache::attend_token(int64_t layer, int64_t sequence, const Tensor& q, const Tensor& k,
                           const Tensor& v, const Tensor& out, const AttentionSettings& settings) {
  const Tensor &keys = keys_[static_cast<size_t>(layer)],
               &values = values_[static_cast<size_t>(layer)];
  const int64_t K = keys.size(1), D = keys.size(3), H = q.numel() / D, seen = length(sequence),
                first = first_seen(seen, settings);
  FT_INVARIANT(seen < capacity_);
  const cpu::CachedHead head{seen + 1 - first, D, static_cast<float>(settings.scale),
                             static_cast<float>(settings.softcap)};
  cpu::with_type(q, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const auto at = [&](const Tensor& cache, int64_t kv_head, int64_t position) {
      return cpu::data<T>(cache) + ((sequence * K + kv_head) * capacity_ + position) * D;
    };
    for (int64_t h = 0; h < K; ++h) {
      std::copy_n(cpu::data<T>(k) + h * D, D, at(keys, h, seen));
      std::copy_n(cpu::data<T>(v) + h * D, D, at(values, h, seen));
    }
    cpu::parallel_rows(H, head.keys * D, [&](int64_t begin, int64_t end) {
      std::vector<float> scores(static_cast<size_t>(head.keys));
      for (int64_t h = begin; h < end; ++h)
        cpu::attend_one<T>(head, cpu::data<T>(q) + h * D, at(keys, h * K / H, first),
                           at(values, h * K / H, first), scores.data(), cpu::data<T>(out) + h * D);
    });
  });
}

void KvCache::advance(const Documents& documents) {
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s)
    lengths_[s] += documents.bounds[s + 1] - documents.bounds[s];
}

}  // namespace ft
