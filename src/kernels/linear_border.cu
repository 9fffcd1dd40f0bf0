// The adapters of a group of layers: one block for each row of B and of A.
#include "kernels/device_code.cuh"

namespace ft::cuda {
namespace {

template <typename T, typename A>
__global__ void border_rows(Border p) {
  const int64_t row = blockIdx.x;
  int64_t part = 0, first = 0, rank = 0;  // of the part: its first output and its first rank
  if (row < p.out) {                      // s B, zero in the other parts' columns
    while (row >= first + p.outs[part]) {
      first += p.outs[part];
      rank += p.ranks[part++];
    }
    const A* b = static_cast<const A*>(p.b[part]) + (row - first) * p.ranks[part];
    T* to = static_cast<T*>(p.b_to.data) + row * p.b_to.stride;
    for (int64_t i = threadIdx.x; i < p.ranks[0] + p.ranks[1] + p.ranks[2]; i += blockDim.x) {
      const int64_t r = i - rank;
      store(&to[i], r >= 0 && r < p.ranks[part] ? p.scales[part] * to_float(b[r]) : 0.0f);
    }
    return;
  }
  T* to = static_cast<T*>(p.a_to.data) + (row - p.out) * p.a_to.stride;
  while (row - p.out >= rank + p.ranks[part]) rank += p.ranks[part++];
  const A* a = static_cast<const A*>(p.a[part]) + (row - p.out - rank) * p.in;
  for (int64_t i = threadIdx.x; i < p.in; i += blockDim.x) store(&to[i], to_float(a[i]));
}

}  // namespace

cudaError_t border(const Border& p, cudaStream_t stream) {
  int64_t rows = p.out;
  for (int64_t i = 0; i < p.parts; ++i) rows += p.ranks[i];
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return with_type(p.adapter_dtype, [&](auto* adapter_type) {
      using A = std::remove_pointer_t<decltype(adapter_type)>;
      return launch(border_rows<T, A>, rows, threads_for(p.in), stream, p);
    });
  });
}

}  // namespace ft::cuda
