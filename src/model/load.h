// Model folder -> spec, weights, decoder; and back.
#pragma once

#include <filesystem>
#include <memory>

#include "model/decoder.h"
#include "model/params.h"

namespace ft {

struct Model {
  std::filesystem::path folder;
  Json config;  ///< config.json as it stands there
  ParamStore params;
  Decoder decoder;
  at::Device device = at::kCPU;
};

/// Only config.json.
ModelSpec load_spec(const std::filesystem::path& folder, Json* config = nullptr);

/// Loads every weight of the folder as `dtype` on `device`; nullopt keeps the dtypes of the file
/// (activations then have the embedding's). On the CPU a weight that already has the dtype stays in
/// the mapped file. Error (input) lists missing, surplus and misshapen tensors.
std::unique_ptr<Model> load_model(const std::filesystem::path& folder,
                                  std::optional<at::ScalarType> dtype, at::Device device);

/// A tensor of a stored one: zero copy where the dtype allows.
Tensor to_tensor(const struct StoredTensor& stored);

/// A weight to be written: name, and the tensor in the dtype that the file shall have.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
void save_tensors(const std::filesystem::path& file, const NamedTensors& tensors);

/// Writes an HF model folder into `folder` (which exists): weights, config.json with `is_tied` and
/// `dtype`, tokenizer and generation files copied byte for byte from the model's own folder.
void save_model(const Model& model, const NamedTensors& tensors, at::ScalarType dtype, bool is_tied,
                const std::filesystem::path& folder);

/// Copies tokenizer and template files byte for byte.
void copy_tokenizer_files(const std::filesystem::path& from, const std::filesystem::path& to);

at::ScalarType parse_dtype(const std::string& name);  ///< bfloat16 | float16 | float32
std::string dtype_text(at::ScalarType dtype);

}  // namespace ft
