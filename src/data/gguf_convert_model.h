// What a GGUF architecture is in Hugging Face terms: tensor names and shapes, the changes that
// llama.cpp's converter made to weights and that are taken back here, and config.json.
// A new architecture is a row in the table of gguf_convert_model.cpp: its tensors and its config.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/gguf.h"
#include "base/json.h"

namespace ft {

/// Sizes of the model, all positive.
struct GgufSizes {
  int64_t vocab, hidden, inter, layers, heads, kv_heads, head_dim, context;
  double norm_eps;
};

enum class GgufDim { kOne, kHidden, kInter, kQuery, kKeyValue, kHeadDim, kVocab };

/// What has to be undone while a tensor is copied.
enum class GgufChange {
  kNone,
  kRopeRows,  ///< rows of each head from interleaved pairs (2i, 2i+1) back to halves (i, i + D/2)
  kMinusOne,  ///< llama.cpp stores 1 + w for norms that scale by 1 + w
};

struct GgufRow {
  std::string_view gguf, hf;  ///< without `blk.N.` and `model.layers.N.`
  GgufDim rows, cols;         ///< rows kOne: a vector of `cols`
  GgufChange change;
};

struct GgufArchitecture {
  std::string_view name;  ///< general.architecture
  std::span<const GgufRow> layer;
  GgufChange norm;  ///< of the final norm
  /// config.json without vocabulary ids, dtype and tie flag.
  Json (*config)(const GgufFile& file, const GgufSizes& sizes);
  /// Tensors that config() reads and that are no weights.
  std::vector<std::string_view> consumed;
};

/// One tensor to write.
struct GgufWeight {
  const GgufTensor* source;
  std::string name;
  GgufChange change;
};

/// Error (input) that lists the known ones.
const GgufArchitecture& find_architecture(const GgufFile& file);
GgufSizes read_sizes(const GgufFile& file, const GgufArchitecture& architecture);

/// All weights in the order of the model. Error (input) for missing, surplus or misshapen tensors.
std::vector<GgufWeight> plan_weights(const GgufFile& file, const GgufArchitecture& architecture,
                                     const GgufSizes& sizes);

/// A float of the file as the shortest decimal that is the same float: 1e-05, not 9.99999974e-06.
double tidy_float(double value);

}  // namespace ft
