// What the model is fed: packed documents as plain host arrays. There is no padding: rows are laid
// end to end and documents keep apart through their bounds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

constexpr int32_t kIgnore = -100;

/// One document: `labels` lines up with `ids` (not shifted); kIgnore marks tokens without loss.
/// labels[0] is always kIgnore, nothing predicts it.
struct Example {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;
};

struct Batch {
  std::vector<int64_t> tokens;  ///< [N]
  std::vector<int64_t>
      targets;  ///< [N] the token to predict at each place (already shifted), or kIgnore
  std::vector<int64_t> positions;  ///< [N] restart at 0 in each document
  std::vector<int64_t>
      bounds;  ///< [S+1] document s is [bounds[s], bounds[s+1]); bounds.front() == 0, back() == N
  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_targets() const;
  int64_t max_document() const;
  /// Appends one document.
  void add(const Example& example);
};

}  // namespace ft
