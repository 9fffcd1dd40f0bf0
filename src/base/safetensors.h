// The safetensors container: name -> dtype, shape, bytes. No tensors here.
// Format: https://github.com/huggingface/safetensors#format. Every rule of the reference reader is
// checked, and duplicate names, which it lets pass, are refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/mapped_file.h"

namespace ft {

enum class DType { kBool, kU8, kI8, kI16, kI32, kI64, kF16, kBF16, kF32, kF64 };

size_t dtype_size(DType dtype);
/// Its name in the file: F32, BF16...
std::string dtype_name(DType dtype);

struct StoredTensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;        ///< inside the mapping
  std::shared_ptr<const MappedFile> file;  ///< keeps it alive
  int64_t numel() const;
};

/// Tensors of one file in file order. Error (input) naming the file and the tensor.
std::vector<StoredTensor> read_safetensors(const std::filesystem::path& file);

/// All tensors of a model folder: model.safetensors, or the shards of model.safetensors.index.json.
/// Shard names must be plain file names. Error (input) also for weights in another format
/// (pytorch_model.bin).
std::vector<StoredTensor> read_model_tensors(const std::filesystem::path& folder);

struct TensorToWrite {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  const void* data;  ///< contiguous; not looked at by SafetensorsWriter
};

/// Writes one file piece by piece, so that no more than a piece has to be in memory. `__metadata__`
/// gets {"format": "pt"} and the extra entries.
class SafetensorsWriter {
 public:
  /// Writes the header; the tensors' data follows in this order.
  SafetensorsWriter(const std::filesystem::path& file, const std::vector<TensorToWrite>& tensors,
                    const std::map<std::string, std::string>& metadata = {});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  /// The next bytes of the data; where one tensor ends and the next begins does not matter.
  void write(const void* data, size_t size);
  /// Syncs and closes. All announced bytes must have been written.
  Written finish();

 private:
  std::unique_ptr<OutputFile> file_;
  size_t left_ = 0;
};

/// Writes and syncs one file from tensors in memory.
void write_safetensors(const std::filesystem::path& file, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace ft
