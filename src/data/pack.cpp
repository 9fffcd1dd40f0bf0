// Best-fit decreasing bin packing (Johnson 1973; the `bfd` strategy of TRL): documents from the
// longest to the shortest, each into the fullest row that still has room. It needs at most 11/9 of
// the best possible number of rows. A sorted set of (free space, row) finds that row in O(log n).
// The rows then return to input order, so that without a shuffle training does not go from long
// documents to short ones.
#include "data/pack.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace ft {

std::vector<std::vector<int64_t>> pack_best_fit(const std::vector<int64_t>& lengths,
                                                int64_t max_length) {
  const auto length = [&](int64_t i) { return lengths[static_cast<size_t>(i)]; };
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return length(a) > length(b); });

  std::vector<std::vector<int64_t>> rows;
  std::set<std::pair<int64_t, size_t>> open;  // free space, row
  for (const int64_t i : order) {
    size_t row = rows.size();
    int64_t free = max_length;
    const auto best = open.lower_bound({length(i), 0});
    if (best == open.end()) {
      rows.emplace_back();
    } else {
      free = best->first;
      row = best->second;
      open.erase(best);
    }
    rows[row].push_back(i);
    if (free > length(i)) open.emplace(free - length(i), row);
  }
  for (auto& row : rows) std::sort(row.begin(), row.end());
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace ft
