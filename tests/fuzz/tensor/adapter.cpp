// An adapter folder for a fixed base: the first byte says which file the rest is ('c':
// adapter_config.json, else the weights).
#include "adapters/adapters.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  static const ft::fs::path base = ft::source_file("tests/data/parity/D_training/llama_lora");
  if (data.empty()) return;
  const bool is_config = data[0] == 'c';
  for (const std::string name : {"adapter_config.json", "adapter_model.safetensors"})
    ft::fuzz_file("adapter/" + name, is_config == (name == "adapter_config.json")
                                         ? std::string(data.substr(1))
                                         : ft::read_file(base / "adapter" / name));
  const auto model = ft::load_model(base / "model", at::kFloat, at::kCPU);
  ft::load_adapter(*model, ft::fuzz_folder() / "adapter");
}
