// Dropout masks without a generator: element i is kept when a hash of (key, i) says so. A block
// that is recomputed in the backward pass gets the same mask, and a resumed run the same as one
// never stopped.
#include "base/seed.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "kernels/mode.h"

namespace ft {

Tensor dropout_mask(int64_t rows, int64_t columns, double probability, uint64_t key,
                    at::ScalarType dtype, at::Device device) {
  const auto limit = static_cast<uint64_t>(probability * 0x1p32);
  const auto kept = static_cast<float>(1.0 / (1.0 - probability));
  if (!device.is_cpu()) {
    const Tensor mask = ops::empty({rows, columns}, dtype, device);
    if (is_on_cuda(mask)) {
      const cuda::DropoutMask p{cuda::dtype_of(dtype), rows * columns, key, limit, kept,
                                cpu::data<void>(mask)};
      cuda::run("dropout_mask", cuda::dropout_mask, p, {mask});
      return mask;
    }
  }
  Tensor mask = ops::empty({rows, columns}, at::kFloat);
  auto* out = static_cast<float*>(mask.data_ptr());
  cpu::parallel_rows(rows, columns, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * columns; i < end * columns; ++i)
      out[i] = (mix64(key ^ static_cast<uint64_t>(i)) >> 32) < limit ? 0.0f : kept;
  });
  return mask.to(device, dtype);
}

}  // namespace ft
