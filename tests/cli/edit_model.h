// Copies of the tiny model and of its adapters, changed by a test.
#pragma once

#include <functional>

#include "cli/run_program.h"
#include "fixtures.h"

namespace ft {

inline void write_tensors(const fs::path& file, const TensorMap& tensors) {
  save_tensors(file, NamedTensors(tensors.begin(), tensors.end()));
}

/// Rewrites a safetensors file; the tensors are copies, the mapping may go.
inline void edit_tensors(const fs::path& file, const std::function<void(TensorMap&)>& change) {
  TensorMap tensors;
  for (const auto& [name, tensor] : read_tensors(file)) tensors[name] = tensor.clone();
  change(tensors);
  write_tensors(file, tensors);
}

inline void edit_json(const fs::path& file, const std::function<void(Json&)>& change) {
  Json json = read_json(file);
  change(json);
  write_file(file, json.dump_indented() + "\n");
}

/// The tiny model in a folder of the test.
inline fs::path copy_model(const TestFolder& work, const std::string& name = "model") {
  const fs::path folder = work / name;
  fs::create_directories(folder);
  for (const auto& entry : fs::directory_iterator(tiny_model()))
    write_file(folder / entry.path().filename(), read_file(entry.path()));
  return folder;
}

/// The same with biases on all attention projections, as Llama configs allow.
inline fs::path copy_model_with_biases(const TestFolder& work) {
  const fs::path folder = copy_model(work, "model-with-biases");
  edit_json(folder / "config.json", [](Json& c) { c.set("attention_bias", true); });
  edit_tensors(folder / "model.safetensors", [](TensorMap& tensors) {
    const TensorMap before = tensors;
    for (const auto& [name, tensor] : before) {
      const size_t at = name.find("_proj.weight");
      if (name.find("self_attn") == std::string::npos || at == std::string::npos) continue;
      tensors[name.substr(0, at) + "_proj.bias"] = tensor.select(1, 0).clone();
    }
  });
  return folder;
}

}  // namespace ft
