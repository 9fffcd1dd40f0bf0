// Examples -> rows of at most max_length tokens: best-fit decreasing bin packing, or one example a
// row.
#pragma once

#include <cstdint>
#include <vector>

#include "data/batch.h"

namespace ft {

/// Rows as lists of indices into `lengths`. Every index appears once; no row is longer than
/// max_length (a length above it is a row of its own). Deterministic: ties go to the lower index.
/// O(n log n).
std::vector<std::vector<int64_t>> pack_best_fit(const std::vector<int64_t>& lengths,
                                                int64_t max_length);

}  // namespace ft
