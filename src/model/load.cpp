// Weights keep the names of the checkpoint, so loading is a walk over the names that the spec
// implies, and saving is the same in reverse.
#include "model/load.h"

#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/safetensors.h"

namespace ft {
namespace {

at::ScalarType to_scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return at::kBool;
    case DType::kU8:
      return at::kByte;
    case DType::kI8:
      return at::kChar;
    case DType::kI16:
      return at::kShort;
    case DType::kI32:
      return at::kInt;
    case DType::kI64:
      return at::kLong;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF32:
      return at::kFloat;
    case DType::kF64:
      return at::kDouble;
  }
  return at::kFloat;
}

DType from_scalar_type(at::ScalarType type) {
  for (const DType d : {DType::kBool, DType::kU8, DType::kI8, DType::kI16, DType::kI32, DType::kI64,
                        DType::kF16, DType::kBF16, DType::kF32, DType::kF64})
    if (to_scalar_type(d) == type) return d;
  fail(Code::kInternal, "no safetensors dtype for ", c10::toString(type));
}

struct Expected {
  std::string name;
  std::vector<int64_t> shape;
};

std::vector<Expected> expected_tensors(const ModelSpec& s) {
  const int64_t C = s.hidden_size, F = s.intermediate_size, q = s.num_heads * s.head_dim,
                kv = s.num_kv_heads * s.head_dim;
  std::vector<Expected> all = {{"model.embed_tokens.weight", {s.vocab_size, C}}};
  for (int64_t i = 0; i < s.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const auto linear_at = [&](const char* module, int64_t out, int64_t in, bool has_bias) {
      all.push_back({layer + module + ".weight", {out, in}});
      if (has_bias) all.push_back({layer + module + ".bias", {out}});
    };
    all.push_back({layer + "input_layernorm.weight", {C}});
    linear_at("self_attn.q_proj", q, C, s.qkv_bias);
    linear_at("self_attn.k_proj", kv, C, s.qkv_bias);
    linear_at("self_attn.v_proj", kv, C, s.qkv_bias);
    linear_at("self_attn.o_proj", C, q, s.o_bias);
    all.push_back({layer + "post_attention_layernorm.weight", {C}});
    linear_at("mlp.gate_proj", F, C, s.mlp_bias);
    linear_at("mlp.up_proj", F, C, s.mlp_bias);
    linear_at("mlp.down_proj", C, F, s.mlp_bias);
  }
  all.push_back({"model.norm.weight", {C}});
  if (!s.is_tied) all.push_back({"lm_head.weight", {s.vocab_size, C}});
  return all;
}

/// Collects names for one error line: the first three and how many more.
struct NameList {
  std::string text;
  size_t count = 0;
  void add(const std::string& name) {
    if (++count <= 3) text += (count > 1 ? ", " : "") + printable(name);
  }
  std::string str() const { return count > 3 ? ft::str(text, " and ", count - 3, " more") : text; }
};

/// A tied model may store the head as well; it must then be the embedding, byte for byte.
void check_tied_head(const StoredTensor& head, const StoredTensor& embed, const fs::path& folder) {
  if (head.dtype == embed.dtype && head.bytes.size() == embed.bytes.size() &&
      std::equal(head.bytes.begin(), head.bytes.end(), embed.bytes.begin()))
    return;
  fail_input(folder.string(),
             ": lm_head.weight: differs from model.embed_tokens.weight although config.json says "
             "tie_word_embeddings: true; set it to false to use both, or remove lm_head.weight");
}

using StoredByName = std::map<std::string, const StoredTensor*>;

void check_names(const std::vector<Expected>& expected, const StoredByName& stored,
                 const fs::path& folder) {
  NameList missing, surplus, misshapen;
  std::set<std::string> wanted;
  for (const Expected& e : expected) {
    wanted.insert(e.name);
    const auto found = stored.find(e.name);
    if (found == stored.end()) {
      missing.add(e.name);
    } else if (found->second->shape != e.shape) {
      misshapen.add(str(e.name, " is ", shape_text(found->second->shape), ", config.json wants ",
                        shape_text(e.shape)));
    }
  }
  for (const auto& [name, tensor] : stored)
    if (!wanted.contains(name) && !name.ends_with("rotary_emb.inv_freq") &&
        name != "lm_head.weight")
      surplus.add(name);
  if (missing.count + surplus.count + misshapen.count == 0) return;
  std::string text;
  for (const auto& [what, list] :
       {std::pair("missing: ", missing), {"not known: ", surplus}, {"wrong shape: ", misshapen}})
    if (list.count) text += (text.empty() ? "" : "; ") + (what + list.str());
  fail_input(folder.string(), ": the weights do not fit config.json: ", text);
}

}  // namespace

at::ScalarType parse_dtype(const std::string& name) {
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  FT_INVARIANT(name == "float32");
  return at::kFloat;
}

std::string dtype_text(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bfloat16" : dtype == at::kHalf ? "float16" : "float32";
}

Tensor to_tensor(const StoredTensor& stored) {
  const auto keep = stored.file;
  const auto type = to_scalar_type(stored.dtype);
  void* data = const_cast<std::byte*>(stored.bytes.data());
  const Tensor view = at::from_blob(
      data, stored.shape, [keep](void*) {}, at::TensorOptions().dtype(type));
  const bool aligned = reinterpret_cast<uintptr_t>(data) % dtype_size(stored.dtype) == 0;
  return aligned ? view : view.clone();
}

ModelSpec load_spec(const fs::path& folder, Json* config) {
  if (!fs::is_directory(folder))
    fail_input(
        folder.string(),
        ": no such folder; a Hugging Face model folder (config.json, *.safetensors) is wanted");
  const fs::path file = folder / "config.json";
  if (!fs::exists(file))
    fail_input(folder.string(), ": config.json is missing; a Hugging Face model folder is wanted");
  const Json json = read_json(file);
  if (config) *config = json;
  return make_spec(json, file.string());
}

std::unique_ptr<Model> load_model(const fs::path& folder, std::optional<at::ScalarType> dtype,
                                  at::Device device) {
  auto model = std::make_unique<Model>();
  model->folder = folder;
  model->device = device;
  const ModelSpec spec = load_spec(folder, &model->config);
  const std::vector<StoredTensor> tensors = read_model_tensors(folder);
  StoredByName stored;
  for (const StoredTensor& t : tensors) stored[t.name] = &t;
  const std::vector<Expected> expected = expected_tensors(spec);
  check_names(expected, stored, folder);
  if (spec.is_tied && stored.contains("lm_head.weight"))
    check_tied_head(*stored["lm_head.weight"], *stored["model.embed_tokens.weight"], folder);
  for (const Expected& e : expected) {
    const Tensor mapped = to_tensor(*stored[e.name]);
    if (!mapped.is_floating_point())
      fail_input(folder.string(), ": ", e.name, ": not a floating-point tensor");
    const Tensor value = mapped.to(device, dtype.value_or(mapped.scalar_type()));
    Param& param =
        model->params.add(e.name, value, value.const_data_ptr() == mapped.const_data_ptr());
    param.stored = mapped.scalar_type();
  }
  const auto embed_dtype = model->params.at("model.embed_tokens.weight").value.scalar_type();
  model->decoder = make_decoder(spec, model->params, dtype.value_or(embed_dtype));
  return model;
}

void save_tensors(const fs::path& file, const NamedTensors& tensors) {
  std::vector<Tensor> host;  // keeps copies alive until they are written
  std::vector<TensorToWrite> rows;
  for (const auto& [name, tensor] : tensors) {
    host.push_back(tensor.detach().to(at::kCPU).contiguous());
    rows.push_back({name, from_scalar_type(tensor.scalar_type()), tensor.sizes().vec(),
                    host.back().const_data_ptr()});
  }
  write_safetensors(file, rows);
}

void copy_tokenizer_files(const fs::path& from, const fs::path& to) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "tokenizer.model",
                           "special_tokens_map.json", "added_tokens.json", "vocab.json",
                           "merges.txt", "chat_template.jinja", "chat_template.json"})
    if (fs::exists(from / name)) write_file(to / name, read_file(from / name));
}

void save_model(const Model& model, const NamedTensors& tensors, at::ScalarType dtype, bool is_tied,
                const fs::path& folder) {
  save_tensors(folder / "model.safetensors", tensors);
  Json config = model.config;
  // Both spellings: transformers 5 reads dtype, everything older torch_dtype.
  for (const char* key : {"torch_dtype", "dtype"}) config.set(key, dtype_text(dtype));
  config.set("tie_word_embeddings", is_tied);
  const RopeSpec& rope = model.decoder.spec.rope;
  config.set("rope_theta", rope.theta);
  Json parameters = Json::Object{{"rope_type", rope.type}, {"rope_theta", rope.theta}};
  if (rope.type != "default") parameters.set("factor", rope.factor);
  if (rope.type == "llama3") {
    parameters.set("low_freq_factor", rope.low_freq_factor);
    parameters.set("high_freq_factor", rope.high_freq_factor);
    parameters.set("original_max_position_embeddings",
                   static_cast<int64_t>(rope.original_max_positions));
  }
  Json scaling = parameters;
  scaling.erase("rope_theta");
  config.set("rope_parameters", parameters);
  config.set("rope_scaling", rope.type == "default" ? Json() : scaling);
  write_file(folder / "config.json", config.dump_indented() + "\n");
  if (fs::exists(model.folder / "generation_config.json"))
    write_file(folder / "generation_config.json",
               read_file(model.folder / "generation_config.json"));
  copy_tokenizer_files(model.folder, folder);
}

}  // namespace ft
