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

}  // namespace

/// One new token by the loops of the CPU. q and out [1, H, D]; keys and values [K, L, D], rows
/// dense.
void attend_one_token(const Tensor& q, const Tensor& keys, const Tensor& values, const Tensor& out,
                      const AttentionSettings& settings) {
  const int64_t H = q.size(1), D = q.size(2), group = H / keys.size(0);
  const cpu::CachedHead head{keys.size(1), D, static_cast<float>(settings.scale),
                             static_cast<float>(settings.softcap)};
  cpu::with_type(q, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    cpu::parallel_rows(H, head.keys * D, [&](int64_t begin, int64_t end) {
      std::vector<float> scores(static_cast<size_t>(head.keys));
      for (int64_t h = begin; h < end; ++h)
        cpu::attend_one<T>(head, cpu::data<T>(q) + h * D,
                           cpu::data<T>(keys) + h / group * keys.stride(0),
                           cpu::data<T>(values) + h / group * values.stride(0), scores.data(),
                           cpu::data<T>(out) + h * D);
    });
  });
}

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
    const Tensor all_keys = keys_[index].select(0, sequence);  // [K, capacity, D]
    const Tensor all_values = values_[index].select(0, sequence);
    all_keys.narrow(1, seen, T).copy_(k.narrow(0, begin, T).transpose(0, 1));
    all_values.narrow(1, seen, T).copy_(v.narrow(0, begin, T).transpose(0, 1));
    if (fresh) continue;
    // The window of the first new token begins at the first key that any of them sees.
    const int64_t first =
        settings.window == 0 ? 0 : std::max<int64_t>(0, seen + 1 - settings.window);
    const Tensor keys = all_keys.narrow(1, first, seen + T - first);
    const Tensor values = all_values.narrow(1, first, seen + T - first);
    if (T == 1 && use_cpu_loops(q) && keys.scalar_type() == q.scalar_type()) {
      attend_one_token(q.narrow(0, begin, 1), keys, values, out.narrow(0, begin, 1), settings);
    } else {
      out.narrow(0, begin, T)
          .copy_(attend_cached(q.narrow(0, begin, T), keys, values, seen, first, settings));
    }
  }
  return fresh ? attention(q, k, v, documents, settings) : out;
}

void KvCache::advance(const Documents& documents) {
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s)
    lengths_[s] += documents.bounds[s + 1] - documents.bounds[s];
}

}  // namespace ft
