// Weights have the names of transformers' model, which are those of the checkpoint but for image
// and text models, where three layouts are in circulation (our_name). Loading is a walk over the
// names that the spec implies.
#include "model/load.h"

#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/safetensors.h"
#include "model/load_quantized.h"

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

struct Expected {
  std::string name;
  std::vector<int64_t> shape;
  bool is_linear = false;  ///< a weight that may be in four bits
};

std::vector<Expected> expected_tensors(const ModelSpec& s) {
  const int64_t C = s.hidden_size, F = s.intermediate_size, q = s.num_heads * s.head_dim,
                kv = s.num_kv_heads * s.head_dim;
  const std::string trunk = s.trunk();
  std::vector<Expected> all = {{trunk + "embed_tokens.weight", {s.vocab_size, C}}};
  for (int64_t i = 0; i < s.num_layers; ++i) {
    const std::string layer = trunk + "layers." + std::to_string(i) + ".";
    const auto norm_at = [&](const char* module, int64_t size) {
      all.push_back({layer + module + ".weight", {size}});
    };
    const auto linear_at = [&](const char* module, int64_t out, int64_t in, bool has_bias) {
      all.push_back({layer + module + ".weight", {out, in}, true});
      if (has_bias) all.push_back({layer + module + ".bias", {out}});
    };
    norm_at("input_layernorm", C);
    linear_at("self_attn.q_proj", q, C, s.qkv_bias);
    linear_at("self_attn.k_proj", kv, C, s.qkv_bias);
    linear_at("self_attn.v_proj", kv, C, s.qkv_bias);
    linear_at("self_attn.o_proj", C, q, s.o_bias);
    if (s.has_qk_norm)
      for (const char* module : {"self_attn.q_norm", "self_attn.k_norm"})
        norm_at(module, s.head_dim);
    norm_at("post_attention_layernorm", C);
    if (s.has_output_norms)
      for (const char* module : {"pre_feedforward_layernorm", "post_feedforward_layernorm"})
        norm_at(module, C);
    linear_at("mlp.gate_proj", F, C, s.mlp_bias);
    linear_at("mlp.up_proj", F, C, s.mlp_bias);
    linear_at("mlp.down_proj", C, F, s.mlp_bias);
  }
  all.push_back({trunk + "norm.weight", {C}});
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
  fail_input(folder.string(), ": ", head.name, ": differs from ", embed.name,
             " although config.json says "
             "tie_word_embeddings: true; set it to false to use both, or remove ",
             head.name);
}

/// The weights by our names; the vision tensors of an image and text model go to `model.vision`.
StoredByName sort_tensors(const std::vector<StoredTensor>& tensors, const ModelSpec& spec,
                          Model& model) {
  StoredByName stored;
  for (const StoredTensor& t : tensors) {
    if (spec.has_vision && is_vision_name(t.name)) {
      model.vision.push_back(t);
      continue;
    }
    const auto [other, is_new] = stored.emplace(our_name(t.name, spec), &t);
    if (!is_new)
      fail_input(model.folder.string(), ": ", printable(t.name), " and ",
                 printable(other->second->name), " are the same weight in two layouts");
  }
  return stored;
}

using PackedWeights = std::map<std::string, std::unique_ptr<QuantizedWeight>>;

/// Takes the weights that lie in four bits out of `stored`, all but their own names.
PackedWeights take_packed(StoredByName& stored, const std::vector<Expected>& expected,
                          const std::string& where) {
  PackedWeights packed;
  for (const Expected& e : expected)
    if (e.is_linear)
      if (auto weight = take_packed_weight(stored, e.name, e.shape, where))
        packed[e.name] = std::move(weight);
  return packed;
}

void check_names(const std::vector<Expected>& expected, const StoredByName& stored,
                 const PackedWeights& packed, const fs::path& folder) {
  NameList missing, surplus, misshapen;
  std::set<std::string> wanted;
  for (const Expected& e : expected) {
    wanted.insert(e.name);
    const auto found = stored.find(e.name);
    if (found == stored.end()) {
      missing.add(e.name);
    } else if (found->second->shape != e.shape && !packed.contains(e.name)) {
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

std::string our_name(std::string_view stored, const ModelSpec& spec) {
  for (const std::string_view trunk : {"language_model.model.", "model.language_model.", "model."})
    if (stored.starts_with(trunk)) return spec.trunk() + std::string(stored.substr(trunk.size()));
  constexpr std::string_view kHead = "language_model.lm_head";
  if (stored.starts_with(kHead)) stored.remove_prefix(kHead.find("lm_head"));
  return std::string(stored);
}

bool is_vision_name(std::string_view stored) {
  if (stored.starts_with("model.")) stored.remove_prefix(std::string_view("model.").size());
  return stored.starts_with("vision_tower.") || stored.starts_with("multi_modal_projector.");
}

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

namespace {

/// One weight as a parameter of `model`, in the file's dtype or as `dtype`.
void add_dense(Model& model, const std::string& name, const StoredTensor& stored,
               std::optional<at::ScalarType> dtype) {
  const Tensor mapped = to_tensor(stored);
  if (!mapped.is_floating_point())
    fail_input(model.folder.string(), ": ", name, ": not a floating-point tensor");
  const Tensor value = mapped.to(model.device, dtype.value_or(mapped.scalar_type()));
  const bool is_mapped = value.const_data_ptr() == mapped.const_data_ptr();
  model.params.add(name, value, is_mapped).stored = mapped.scalar_type();
  if (!is_mapped) release_pages(stored.bytes.data(), stored.bytes.size());
}

/// The same packed into four bits. Peak memory: the weight itself, twice where its dtype changes.
void add_quantized(Model& model, const std::string& name, const StoredTensor& stored,
                   std::optional<at::ScalarType> dtype, const QuantizationConfig& how) {
  const Tensor mapped = to_tensor(stored);
  if (!mapped.is_floating_point())
    fail_input(model.folder.string(), ": ", name, ": not a floating-point tensor");
  const Tensor value = mapped.to(dtype.value_or(mapped.scalar_type()));
  const QuantizedWeight packed = quantize(value, how.type, how.block_size, how.double_quant);
  model.params.add(name, std::make_shared<QuantizedWeight>(to_device(packed, model.device)));
  release_pages(stored.bytes.data(), stored.bytes.size());
}

}  // namespace

std::unique_ptr<Model> load_model(const fs::path& folder, std::optional<at::ScalarType> dtype,
                                  at::Device device, const QuantizationConfig* quantization) {
  auto model = std::make_unique<Model>();
  model->folder = folder;
  model->device = device;
  const ModelSpec spec = load_spec(folder, &model->config);
  if (dtype == at::kHalf && spec.has_output_norms)
    fail_usage("dtype: float16: the activations of ", spec.family,
               " exceed its range; bfloat16 or float32 is wanted");
  const std::vector<StoredTensor> tensors = read_model_tensors(folder);
  StoredByName stored = sort_tensors(tensors, spec, *model);
  const std::vector<Expected> expected = expected_tensors(spec);
  PackedWeights packed;
  if (spec.is_4bit) packed = take_packed(stored, expected, folder.string());
  check_names(expected, stored, packed, folder);
  const std::string embed = spec.trunk() + "embed_tokens.weight";
  if (spec.is_tied && stored.contains("lm_head.weight"))
    check_tied_head(*stored["lm_head.weight"], *stored[embed], folder);
  if (!packed.empty()) {
    const QuantizedWeight& first = *packed.begin()->second;
    model->quantization = {first.type, first.nested_map.defined(), first.block_size};
  } else if (quantization && !spec.is_4bit) {
    model->quantization = *quantization;
  }
  for (const Expected& e : expected) {
    if (const auto found = packed.find(e.name); found != packed.end()) {
      model->params.add(e.name,
                        std::make_shared<QuantizedWeight>(to_device(*found->second, device)));
    } else if (quantization && !spec.is_4bit && e.is_linear) {
      add_quantized(*model, e.name, *stored[e.name], dtype, *quantization);
    } else {
      add_dense(*model, e.name, *stored[e.name], dtype);
    }
  }
  const auto embed_dtype = model->params.at(embed).value.scalar_type();
  model->decoder = make_decoder(spec, model->params, dtype.value_or(embed_dtype));
  return model;
}

std::unique_ptr<Model> outline_model(const fs::path& folder, at::ScalarType dtype) {
  auto model = std::make_unique<Model>();
  model->folder = folder;
  model->device = at::kMeta;
  const ModelSpec spec = load_spec(folder, &model->config);
  for (const Expected& e : expected_tensors(spec))
    model->params.add(e.name, ops::empty(e.shape, dtype, at::kMeta));
  model->decoder = make_decoder(spec, model->params, dtype);
  return model;
}

}  // namespace ft
