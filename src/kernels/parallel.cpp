// parallel_rows() on LibTorch's intra-op threads. The one file compiled with OpenMP.
#include <ATen/Parallel.h>

#include "kernels/cpu_loops.h"

namespace ft::cpu {

void parallel_rows(int64_t rows, int64_t cost, const std::function<void(int64_t, int64_t)>& body) {
  constexpr int64_t kGrain =
      32768;  // elements per task below which a second thread costs more than it brings
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cost)), body);
}

}  // namespace ft::cpu
