// GGUF: the container, and the conversion of what it holds.
#include "base/gguf.h"

#include "data/gguf_convert.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  const ft::fs::path out = ft::fuzz_folder() / "converted";
  ft::fs::remove_all(out);
  ft::convert_gguf(ft::fuzz_file("m.gguf", data), out);
}
