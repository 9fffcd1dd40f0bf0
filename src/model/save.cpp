// A model folder as transformers 4 and 5, vLLM and llama.cpp read it: the base's own config.json
// with what training changed, and every rotation and window in both spellings. Readers of the old
// one ignore rope_parameters and would fall back to theta 10000 without a word.
#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "model/load.h"

namespace ft {
namespace {

DType from_scalar_type(at::ScalarType type) {
  switch (type) {
    case at::kBool:
      return DType::kBool;
    case at::kByte:
      return DType::kU8;
    case at::kChar:
      return DType::kI8;
    case at::kShort:
      return DType::kI16;
    case at::kInt:
      return DType::kI32;
    case at::kLong:
      return DType::kI64;
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kFloat:
      return DType::kF32;
    case at::kDouble:
      return DType::kF64;
    default:
      fail(Code::kInternal, "no safetensors dtype for ", c10::toString(type));
  }
}

/// rope_parameters of one rotation; without its theta it is the old rope_scaling.
Json rope_json(const RopeSpec& rope) {
  Json json = Json::Object{{"rope_type", rope.type}, {"rope_theta", rope.theta}};
  if (rope.type != "default") json.set("factor", rope.factor);
  if (rope.type == "llama3") {
    json.set("low_freq_factor", rope.low_freq_factor);
    json.set("high_freq_factor", rope.high_freq_factor);
    json.set("original_max_position_embeddings", static_cast<int64_t>(rope.original_max_positions));
  }
  return json;
}

void set_rope(Json& config, const ModelSpec& spec) {
  Json parameters = rope_json(spec.rope), scaling = parameters;
  scaling.erase("rope_theta");
  config.set("rope_theta", spec.rope.theta);
  config.set("rope_scaling", spec.rope.type == "default" ? Json() : scaling);
  if (spec.window_rope) {
    config.set("rope_local_base_freq", spec.window_rope->theta);
    parameters = Json::Object{{"full_attention", parameters},
                              {"sliding_attention", rope_json(*spec.window_rope)}};
  }
  config.set("rope_parameters", parameters);
}

/// layer_types, which transformers 5 reads; for 4 the period of Gemma 3's pattern, where it has
/// one.
void set_windows(Json& config, const ModelSpec& spec) {
  const bool is_mixed =
      std::ranges::adjacent_find(spec.windows, std::not_equal_to()) != spec.windows.end();
  if (!is_mixed && !spec.window_rope) return;
  Json::Array types;
  size_t period = spec.windows.size() + 1;
  for (size_t i = 0; i < spec.windows.size(); ++i) {
    if (spec.windows[i] == 0 && period > spec.windows.size()) period = i + 1;
    types.emplace_back(spec.windows[i] == 0 ? "full_attention" : "sliding_attention");
  }
  // A list of the base stays as it is: with use_sliding_window off, Qwen's may name windows.
  if (!config.get_set("layer_types")) config.set("layer_types", std::move(types));
  bool is_periodic = spec.window_rope.has_value();
  for (size_t i = 0; i < spec.windows.size(); ++i)
    is_periodic &= (spec.windows[i] == 0) == ((i + 1) % period == 0);
  if (is_periodic) config.set("sliding_window_pattern", static_cast<int64_t>(period));
}

/// The language model's part of config.json as one of its own.
Json text_only_config(const Json& config) {
  Json text = text_config(config);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version"})
    if (const Json* value = config.get_set(key)) text.set(key, *value);
  text.set("model_type", "gemma3_text");
  text.set("architectures", Json::Array{"Gemma3ForCausalLM"});
  return text;
}

Json written_config(const Model& model, const SaveOptions& options, bool has_vision) {
  const ModelSpec& spec = model.decoder.spec;
  Json config = has_vision || !spec.has_vision ? model.config : text_only_config(model.config);
  config.erase("quantization_config");  // what is written is not in four bits
  Json text = text_config(config);
  set_rope(text, spec);
  set_windows(text, spec);
  const auto set_changed = [&](Json& json) {
    // Both spellings: transformers 5 reads dtype, everything older torch_dtype.
    for (const char* key : {"torch_dtype", "dtype"}) json.set(key, dtype_text(options.dtype));
    json.set("tie_word_embeddings", options.is_tied);
  };
  set_changed(text);
  if (!has_vision) return text;
  set_changed(config);
  config.set("text_config", text);
  return config;
}

/// Our name -> the name in the file.
std::string written_name(const std::string& name, const ModelSpec& spec, bool has_vision) {
  if (!spec.has_vision) return name;
  const std::string trunk = spec.trunk();
  if (name.starts_with(trunk))
    return (has_vision ? "language_model.model." : "model.") + name.substr(trunk.size());
  return has_vision ? "language_model." + name : name;
}

}  // namespace

Written save_tensors(const fs::path& file, const NamedTensors& tensors,
                     const std::function<void(const void*, size_t)>& written) {
  constexpr size_t kPart = size_t{16} << 20;
  std::vector<TensorToWrite> rows;
  for (const auto& [name, tensor] : tensors)
    rows.push_back({name, from_scalar_type(tensor.scalar_type()), tensor.sizes().vec(), nullptr});
  SafetensorsWriter out(file, rows);
  for (const auto& [name, tensor] : tensors) {
    const Tensor host = tensor.detach().to(at::kCPU).contiguous();  // a copy at a time
    const auto* data = static_cast<const std::byte*>(host.const_data_ptr());
    for (size_t at = 0; at < host.nbytes(); at += kPart) {
      const size_t size = std::min(kPart, host.nbytes() - at);
      out.write(data + at, size);
      if (written) written(data + at, size);
    }
  }
  return out.finish();
}

void copy_tokenizer_files(const fs::path& from, const fs::path& to) {
  for (const char* name : kTokenizerFiles)
    if (fs::exists(from / name)) copy_bytes(from / name, to / name);
}

void save_model(const Model& model, const NamedTensors& tensors, const SaveOptions& options,
                const fs::path& folder) {
  const ModelSpec& spec = model.decoder.spec;
  const bool has_vision = !options.text_only && !model.vision.empty();
  NamedTensors written;
  for (const auto& [name, tensor] : tensors)
    written.emplace_back(written_name(name, spec, has_vision), tensor);
  if (has_vision)
    for (const StoredTensor& t : model.vision)
      written.emplace_back(t.name.substr(t.name.starts_with("model.") ? 6 : 0), to_tensor(t));
  save_tensors(folder / "model.safetensors", written);
  write_file(folder / "config.json",
             written_config(model, options, has_vision).dump_indented() + "\n");
  std::vector<const char*> copied = {"generation_config.json"};
  if (has_vision)
    copied.insert(copied.end(), {"preprocessor_config.json", "processor_config.json"});
  for (const char* name : copied)
    if (fs::exists(model.folder / name)) copy_bytes(model.folder / name, folder / name);
  copy_tokenizer_files(model.folder, folder);
}

}  // namespace ft
