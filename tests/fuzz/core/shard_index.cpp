// model.safetensors.index.json beside two good shards: nothing outside the folder may be read.
#include "base/safetensors.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  static const bool is_prepared = [] {
    const float values[4] = {1, 2, 3, 4};
    for (const char* name : {"m/a.safetensors", "m/b.safetensors", "outside.safetensors"}) {
      ft::fuzz_file(name, "");
      ft::write_safetensors(ft::fuzz_folder() / name,
                            {{name[0] == 'o' ? "outside" : std::string(name + 2, 1),
                              ft::DType::kF32,
                              {2, 2},
                              values}});
    }
    return true;
  }();
  (void)is_prepared;
  ft::fuzz_file("m/model.safetensors.index.json", data);
  for (const ft::StoredTensor& t : ft::read_model_tensors(ft::fuzz_folder() / "m"))
    if (t.name != "a" && t.name != "b") ft::finding("a tensor from outside the folder");
}
