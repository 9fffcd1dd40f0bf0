// Documents laid end to end. The shift by one token happens here and nowhere else: what a place
// predicts is the label of the next place of the same document, so the last place of a document
// predicts nothing and the first label is never used. Trap: labels of an Example are not shifted,
// targets of a Batch are.
#include "data/batch.h"

#include <algorithm>

#include "base/error.h"

namespace ft {

int64_t Batch::num_targets() const {
  return std::count_if(targets.begin(), targets.end(), [](int64_t t) { return t != kIgnore; });
}

int64_t Batch::max_document() const {
  int64_t longest = 0;
  for (size_t s = 1; s < bounds.size(); ++s) longest = std::max(longest, bounds[s] - bounds[s - 1]);
  return longest;
}

void Batch::add(const Example& example) {
  const size_t n = example.ids.size();
  FT_INVARIANT(example.labels.size() == n);
  if (bounds.empty()) bounds.push_back(0);
  if (n == 0) return;  // an empty segment would be a document without a first token
  for (size_t i = 0; i < n; ++i) {
    tokens.push_back(example.ids[i]);
    targets.push_back(i + 1 < n ? example.labels[i + 1] : kIgnore);
    positions.push_back(static_cast<int64_t>(i));
  }
  bounds.push_back(num_tokens());
}

}  // namespace ft
