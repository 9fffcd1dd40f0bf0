#include "model/kv_cache.h"

#include <algorithm>

#include "base/error.h"

namespace ft {

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
                       const Documents& documents, double scale) {
  const auto index = static_cast<size_t>(layer);
  const bool fresh =
      std::all_of(lengths_.begin(), lengths_.end(), [](int64_t n) { return n == 0; });
  Tensor out = ops::empty_like(q);
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t begin = documents.bounds[s], T = documents.bounds[s + 1] - begin,
                  seen = lengths_[s];
    if (T == 0) continue;
    FT_INVARIANT(seen + T <= capacity_);
    const Tensor keys =
        keys_[index].select(0, static_cast<int64_t>(s)).narrow(1, 0, seen + T);  // [K, L, D]
    const Tensor values = values_[index].select(0, static_cast<int64_t>(s)).narrow(1, 0, seen + T);
    keys.narrow(1, seen, T).copy_(k.narrow(0, begin, T).transpose(0, 1));
    values.narrow(1, seen, T).copy_(v.narrow(0, begin, T).transpose(0, 1));
    if (fresh) continue;
    OptTensor mask;
    if (T > 1) {  // new token t sees the old ones and the new ones up to itself
      const Tensor row = ops::arange(T, at::kLong, q.device()).add(seen).unsqueeze(1);
      mask = ops::arange(seen + T, at::kLong, q.device()).unsqueeze(0).le(row);
    }
    const Tensor y = at::_ops::scaled_dot_product_attention::call(
        q.narrow(0, begin, T).transpose(0, 1).unsqueeze(0), keys.unsqueeze(0), values.unsqueeze(0),
        mask, 0.0, false, scale, true);
    out.narrow(0, begin, T).copy_(y.squeeze(0).transpose(0, 1));
  }
  return fresh ? attention(q, k, v, documents, scale) : out;
}

void KvCache::advance(const Documents& documents) {
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s)
    lengths_[s] += documents.bounds[s + 1] - documents.bounds[s];
}

}  // namespace ft
