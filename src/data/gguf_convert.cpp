// The file is read and judged as a whole first (architecture, sizes, every tensor's shape, the
// vocabulary); then the folder is written. Weights go row by row: source row -> float32 -> the
// change of the architecture -> bfloat16 -> disk, so no tensor is ever whole in memory.
#include "data/gguf_convert.h"

#include <algorithm>

#include "base/error.h"
#include "base/gguf.h"
#include "base/log.h"
#include "base/safetensors.h"
#include "data/gguf_convert_model.h"
#include "data/gguf_convert_tokenizer.h"

namespace ft {
namespace {

constexpr size_t kFlushBytes = 1 << 20;

/// float32 when every matrix is stored so, else bfloat16.
DType choose_dtype(const std::vector<GgufWeight>& weights) {
  for (const GgufWeight& w : weights)
    if (w.source->shape.size() > 1 && w.source->type != GgmlType::kF32) return DType::kBF16;
  return DType::kF32;
}

/// Where row `r` of a q or k matrix lies in the GGUF file.
size_t rope_row(size_t r, size_t head_dim) {
  const size_t half = head_dim / 2, in_head = r % head_dim;
  return r - in_head + in_head % half * 2 + in_head / half;
}

void write_weight(SafetensorsWriter& out, const GgufWeight& w, DType dtype, int64_t head_dim) {
  const GgufTensor& t = *w.source;
  const auto cols = static_cast<size_t>(t.shape.back());
  const size_t rows = t.shape.size() > 1 ? static_cast<size_t>(t.shape[0]) : 1;
  const GgmlFormat& format = ggml_format(t.type);
  const size_t blocks = cols / format.block_values, row_bytes = blocks * format.block_bytes;
  std::vector<float> row(cols);
  std::vector<uint16_t> narrow;
  for (size_t r = 0; r < rows; ++r) {
    const size_t from =
        w.change == GgufChange::kRopeRows ? rope_row(r, static_cast<size_t>(head_dim)) : r;
    dequantize(t.type, t.bytes.data() + from * row_bytes, blocks, row.data());
    if (w.change == GgufChange::kMinusOne)
      for (float& v : row) v -= 1.0f;
    if (dtype == DType::kF32) {
      out.write(row.data(), cols * sizeof(float));
      continue;
    }
    for (const float v : row) narrow.push_back(float_to_bf16(v));
    if (narrow.size() * sizeof(uint16_t) >= kFlushBytes || r + 1 == rows) {
      out.write(narrow.data(), narrow.size() * sizeof(uint16_t));
      narrow.clear();
    }
  }
}

void write_weights(const fs::path& file, const std::vector<GgufWeight>& weights, DType dtype,
                   int64_t head_dim) {
  std::vector<TensorToWrite> list;
  list.reserve(weights.size());
  for (const GgufWeight& w : weights) list.push_back({w.name, dtype, w.source->shape, nullptr});
  SafetensorsWriter out(file, list);
  for (const GgufWeight& w : weights) write_weight(out, w, dtype, head_dim);
  out.finish();
}

Json id_or_null(const std::optional<int64_t>& id) {
  return id ? Json(*id) : Json();
}

Json generation_config(const GgufVocabulary& vocabulary) {
  Json::Array stops;
  for (const int64_t id : stop_ids(vocabulary)) stops.emplace_back(id);
  Json config = Json::Object{{"bos_token_id", id_or_null(vocabulary.bos)}};
  if (!stops.empty()) config.set("eos_token_id", std::move(stops));
  config.set("pad_token_id", id_or_null(vocabulary.pad));
  return config;
}

void check_target(const fs::path& folder) {
  std::error_code error;  // a folder that cannot be looked at fails when it is written
  const fs::file_status status = fs::status(folder, error);
  if (error || !fs::exists(status)) return;
  if (!fs::is_directory(status))
    fail(Code::kOutput, folder.string(), ": a file is in the way, a folder to be made is wanted");
  if (!fs::is_empty(folder, error))
    fail(Code::kOutput, folder.string(),
         ": the folder is not empty; choose another one or remove it first");
}

}  // namespace

void convert_gguf(const fs::path& gguf_file, const fs::path& out_folder) {
  check_target(out_folder);
  const GgufFile file(gguf_file);
  const GgufArchitecture& architecture = find_architecture(file);
  const GgufSizes sizes = read_sizes(file, architecture);
  const std::vector<GgufWeight> weights = plan_weights(file, architecture, sizes);
  const DType dtype = choose_dtype(weights);
  const GgufVocabulary vocabulary = read_vocabulary(file, architecture.name, sizes.vocab);

  Json config = architecture.config(file, sizes);
  config.set("tie_word_embeddings", !file.find("output.weight"));
  config.set("bos_token_id", id_or_null(vocabulary.bos));
  config.set("eos_token_id", id_or_null(vocabulary.eos));
  config.set("pad_token_id", id_or_null(vocabulary.pad));
  for (const char* key : {"torch_dtype", "dtype"})
    config.set(key, dtype == DType::kF32 ? "float32" : "bfloat16");
  const TextFiles tokenizer = tokenizer_files(file, vocabulary, sizes.context);

  StagedFolder staged(out_folder);
  write_file(staged.path() / "config.json", config.dump_indented() + "\n");
  write_file(staged.path() / "generation_config.json",
             generation_config(vocabulary).dump_indented() + "\n");
  for (const auto& [name, content] : tokenizer) write_file(staged.path() / name, content);
  write_weights(staged.path() / "model.safetensors", weights, dtype, sizes.head_dim);
  staged.commit();
  log_info(out_folder.string(), ": ", architecture.name, ", ", weights.size(), " tensors in ",
           dtype == DType::kF32 ? "float32" : "bfloat16", ", ", vocabulary.tokens.size(),
           " tokens, from ", file.where());
}

}  // namespace ft
