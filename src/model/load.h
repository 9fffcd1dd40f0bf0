// Model folder -> spec, weights, decoder; and back.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "base/safetensors.h"
#include "finetune/config.h"
#include "model/decoder.h"
#include "model/params.h"

namespace ft {

struct Model {
  std::filesystem::path folder;
  Json config;  ///< config.json as it stands there
  ParamStore params;
  std::vector<StoredTensor> vision;  ///< of an image and text model: carried into what is written
  Decoder decoder;
  /// How the blocks' linear layers are kept, where they are in four bits.
  std::optional<QuantizationConfig> quantization;
  at::Device device = at::kCPU;
};

/// Only config.json.
ModelSpec load_spec(const std::filesystem::path& folder, Json* config = nullptr);

/// Loads every weight of the folder as `dtype` on `device`; nullopt keeps the dtypes of the file
/// (activations then have the embedding's). On the CPU a weight that already has the dtype stays in
/// the mapped file. With `quantization` the blocks' linear layers are packed into four bits, one by
/// one; weights that are stored so stay as they are in any case. Error (input) lists missing,
/// surplus and misshapen tensors.
std::unique_ptr<Model> load_model(const std::filesystem::path& folder,
                                  std::optional<at::ScalarType> dtype, at::Device device,
                                  const QuantizationConfig* quantization = nullptr);

/// The model of a folder without its weights, from config.json alone: every parameter is a meta
/// tensor of `dtype`.
std::unique_ptr<Model> outline_model(const std::filesystem::path& folder, at::ScalarType dtype);

/// A tensor of a stored one: zero copy where the dtype allows.
Tensor to_tensor(const StoredTensor& stored);

/// A weight to be written: name, and the tensor in the dtype that the file shall have.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
/// Syncs. `written`, where given, is told of each part of a tensor's memory that has been written.
Written save_tensors(const std::filesystem::path& file, const NamedTensors& tensors,
                     const std::function<void(const void*, size_t)>& written = {});

/// What save_model writes besides the weights.
struct SaveOptions {
  at::ScalarType dtype;    ///< for config.json
  bool is_tied = true;     ///< the head is the embedding
  bool text_only = false;  ///< of an image and text model, only the language model
};

/// Writes an HF model folder into `folder` (which exists): weights, config.json in the styles of
/// transformers 4 and 5, tokenizer and generation files copied byte for byte from the model's own
/// folder. An image and text model gets its vision tensors unchanged, in the layout of the Hub.
void save_model(const Model& model, const NamedTensors& tensors, const SaveOptions& options,
                const std::filesystem::path& folder);

/// The name that this program gives a stored weight of the language model: checkpoints and adapters
/// of image and text models exist in several layouts. Names it does not know stay as they are.
std::string our_name(std::string_view stored, const ModelSpec& spec);
bool is_vision_name(std::string_view stored);

inline constexpr const char* kTokenizerFiles[] = {"tokenizer.json",    "tokenizer_config.json",
                                                  "tokenizer.model",   "special_tokens_map.json",
                                                  "added_tokens.json", "vocab.json",
                                                  "merges.txt",        "chat_template.jinja",
                                                  "chat_template.json"};
/// Copies tokenizer and template files byte for byte.
void copy_tokenizer_files(const std::filesystem::path& from, const std::filesystem::path& to);

at::ScalarType parse_dtype(const std::string& name);  ///< bfloat16 | float16 | float32
std::string dtype_text(at::ScalarType dtype);

}  // namespace ft
