// Keys and values of the tokens already seen, per layer and sequence, for generation.
#pragma once

#include <vector>

#include "kernels/kernels.h"
#include "model/spec.h"

namespace ft {

class KvCache {
 public:
  KvCache(const ModelSpec& spec, int64_t num_sequences, int64_t capacity, at::ScalarType dtype,
          at::Device device);

  /// Appends the new tokens of every sequence to layer `layer` and attends to all of its tokens so
  /// far. q [N, H, D], k and v [N, K, D], one document per sequence (an empty one takes no part) ->
  /// [N, H, D].
  Tensor attend(int64_t layer, const Tensor& q, const Tensor& k, const Tensor& v,
                const Documents& documents, const AttentionSettings& settings);
  /// The same for one new token of one sequence by the loops of the CPU: q and out [H, D], k and v
  /// [K, D], dense, of the cache's dtype.
  void attend_token(int64_t layer, int64_t sequence, const Tensor& q, const Tensor& k,
                    const Tensor& v, const Tensor& out, const AttentionSettings& settings);
  /// After the last layer: the new tokens now count as seen.
  void advance(const Documents& documents);
  int64_t length(int64_t sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  /// Forgets what comes after the first `length` tokens.
  void truncate(int64_t sequence, int64_t length) {
    lengths_[static_cast<size_t>(sequence)] = length;
  }

 private:
  int64_t capacity_;
  std::vector<int64_t> lengths_;
  std::vector<Tensor> keys_, values_;  ///< per layer [sequences, K, capacity, D]
};

}  // namespace ft
