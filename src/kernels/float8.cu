// Rows to eight bits, one block each: the largest, then the codes; the second reading comes from
// the cache.
#include "kernels/float8_code.cuh"

namespace ft::cuda {
namespace {

template <typename T>
__global__ void rows_to_float8(ToFloat8 p) {
  constexpr int kWide = kPackBytes / sizeof(T);
  const T* x = static_cast<const T*>(p.x.data) + blockIdx.x * p.x.stride;
  float most = 0;
  for (int64_t i = threadIdx.x * kWide; i < p.width; i += blockDim.x * kWide)
    most = fmaxf(most, largest(pack_at<kWide>(x + i)));
  const float inverse = float8_inverse(p.rounded, most);
  row_to_float8(x, p.width, inverse, p.rounded.codes + blockIdx.x * p.width);
}

}  // namespace

cudaError_t to_float8(const ToFloat8& p, cudaStream_t stream) {
  return with_type(p.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (!in_packs<T>(p.width, {p.x})) return cudaErrorInvalidValue;
    return launch(rows_to_float8<T>, p.rows, threads_for(p.width / 2), stream, p);
  });
}

}  // namespace ft::cuda
