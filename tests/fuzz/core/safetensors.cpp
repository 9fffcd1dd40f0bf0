// The safetensors container: header, entries, and every byte that they point to.
#include "base/safetensors.h"

#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  uint64_t sum = 0;
  for (const ft::StoredTensor& t : ft::read_safetensors(ft::fuzz_file("a.safetensors", data))) {
    for (const std::byte b : t.bytes) sum += static_cast<uint64_t>(b);
    if (t.bytes.size() != static_cast<size_t>(t.numel()) * ft::dtype_size(t.dtype))
      ft::finding("a tensor whose bytes do not fit its size");
  }
  if (sum == UINT64_MAX) ft::finding("never");
}
