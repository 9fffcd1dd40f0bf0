// Names: gguf-py's tensor_mapping; changes and key names: llama.cpp's conversion scripts and
// loaders; target: transformers' Llama and Gemma 3 configurations. config.json gets the keys of
// transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters) side by side, because readers
// of one kind silently fall back to theta 10000 on a file of the other.
#include "data/gguf_convert_model.h"

#include <charconv>
#include <set>

#include "base/error.h"
#include "data/gguf_convert_rope.h"

namespace ft {
namespace {

using D = GgufDim;
using C = GgufChange;

constexpr GgufRow kLlamaLayer[] = {
    {"attn_norm.weight", "input_layernorm.weight", D::kOne, D::kHidden, C::kNone},
    {"attn_q.weight", "self_attn.q_proj.weight", D::kQuery, D::kHidden, C::kRopeRows},
    {"attn_k.weight", "self_attn.k_proj.weight", D::kKeyValue, D::kHidden, C::kRopeRows},
    {"attn_v.weight", "self_attn.v_proj.weight", D::kKeyValue, D::kHidden, C::kNone},
    {"attn_output.weight", "self_attn.o_proj.weight", D::kHidden, D::kQuery, C::kNone},
    {"ffn_norm.weight", "post_attention_layernorm.weight", D::kOne, D::kHidden, C::kNone},
    {"ffn_gate.weight", "mlp.gate_proj.weight", D::kInter, D::kHidden, C::kNone},
    {"ffn_up.weight", "mlp.up_proj.weight", D::kInter, D::kHidden, C::kNone},
    {"ffn_down.weight", "mlp.down_proj.weight", D::kHidden, D::kInter, C::kNone},
};

// Gemma's rotary embedding works on halves in both worlds: its rows are not touched.
constexpr GgufRow kGemma3Layer[] = {
    {"attn_norm.weight", "input_layernorm.weight", D::kOne, D::kHidden, C::kMinusOne},
    {"attn_q.weight", "self_attn.q_proj.weight", D::kQuery, D::kHidden, C::kNone},
    {"attn_q_norm.weight", "self_attn.q_norm.weight", D::kOne, D::kHeadDim, C::kMinusOne},
    {"attn_k.weight", "self_attn.k_proj.weight", D::kKeyValue, D::kHidden, C::kNone},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", D::kOne, D::kHeadDim, C::kMinusOne},
    {"attn_v.weight", "self_attn.v_proj.weight", D::kKeyValue, D::kHidden, C::kNone},
    {"attn_output.weight", "self_attn.o_proj.weight", D::kHidden, D::kQuery, C::kNone},
    {"post_attention_norm.weight", "post_attention_layernorm.weight", D::kOne, D::kHidden,
     C::kMinusOne},
    {"ffn_norm.weight", "pre_feedforward_layernorm.weight", D::kOne, D::kHidden, C::kMinusOne},
    {"ffn_gate.weight", "mlp.gate_proj.weight", D::kInter, D::kHidden, C::kNone},
    {"ffn_up.weight", "mlp.up_proj.weight", D::kInter, D::kHidden, C::kNone},
    {"ffn_down.weight", "mlp.down_proj.weight", D::kHidden, D::kInter, C::kNone},
    {"post_ffw_norm.weight", "post_feedforward_layernorm.weight", D::kOne, D::kHidden,
     C::kMinusOne},
};

/// The part of config.json that all architectures share.
Json common_config(std::string_view hf_class, std::string_view model_type, const GgufSizes& s) {
  return Json::Object{{"architectures", Json::Array{hf_class}},
                      {"model_type", model_type},
                      {"vocab_size", s.vocab},
                      {"hidden_size", s.hidden},
                      {"intermediate_size", s.inter},
                      {"num_hidden_layers", s.layers},
                      {"num_attention_heads", s.heads},
                      {"num_key_value_heads", s.kv_heads},
                      {"head_dim", s.head_dim},
                      {"max_position_embeddings", s.context},
                      {"rms_norm_eps", s.norm_eps},
                      {"initializer_range", 0.02},
                      {"attention_bias", false},
                      {"attention_dropout", 0.0},
                      {"use_cache", true}};
}

Json llama_config(const GgufFile& file, const GgufSizes& s) {
  if (file.get_int("llama.expert_count").value_or(0) > 0)
    fail_input(file.where(), ": llama.expert_count: mixtures of experts are not supported");
  Json config = common_config("LlamaForCausalLM", "llama", s);
  const double theta = tidy_float(file.get_float("llama.rope.freq_base").value_or(10000.0));
  const Json scaling = read_rope_scaling(file, "llama", s, theta);
  config.set("hidden_act", "silu");
  config.set("mlp_bias", false);
  config.set("rope_theta", theta);
  config.set("rope_scaling", scaling);
  config.set("rope_parameters", rope_parameters(scaling, theta));
  return config;
}

/// Which layers see only the window: a list of booleans, a period (every n-th layer sees all), or
/// the period 6 of all published models when the file is silent.
Json::Array gemma3_layer_types(const GgufFile& file, const GgufSizes& s, Json& config) {
  constexpr const char* kKey = "gemma3.attention.sliding_window_pattern";
  Json::Array types;
  if (file.is_array(kKey)) {
    const auto slides = file.get_ints(kKey);
    if (static_cast<int64_t>(slides->size()) != s.layers)
      fail_input(file.where(), ": ", kKey, ": ", slides->size(), " entries for ", s.layers,
                 " layers");
    for (const int64_t sliding : *slides)
      types.emplace_back(sliding ? "sliding_attention" : "full_attention");
    return types;
  }
  const int64_t period = file.get_int(kKey).value_or(6);
  if (period < 1) fail_input(file.where(), ": ", kKey, ": ", period, ", at least 1 is wanted");
  for (int64_t i = 0; i < s.layers; ++i)
    types.emplace_back((i + 1) % period == 0 ? "full_attention" : "sliding_attention");
  config.set("sliding_window_pattern", period);
  return types;
}

Json gemma3_config(const GgufFile& file, const GgufSizes& s) {
  Json config = common_config("Gemma3ForCausalLM", "gemma3_text", s);
  const double theta = tidy_float(file.get_float("gemma3.rope.freq_base").value_or(1e6));
  const double local = tidy_float(file.get_float("gemma3.rope.freq_base_swa").value_or(10000.0));
  const Json scaling = read_rope_scaling(file, "gemma3", s, theta);
  const auto window = file.get_int("gemma3.attention.sliding_window");
  if (!window || *window < 1)
    fail_input(file.where(), ": gemma3.attention.sliding_window: a positive number is wanted");
  const auto softcap = file.get_float("gemma3.final_logit_softcapping");
  config.set("hidden_activation", "gelu_pytorch_tanh");
  config.set("attn_logit_softcapping", nullptr);
  config.set("final_logit_softcapping", softcap ? Json(tidy_float(*softcap)) : Json());
  // Not in the file: the largest model (62 layers) scales scores by its width per head, all others
  // by head_dim. llama.cpp's loader tells them apart the same way.
  config.set("query_pre_attn_scalar", s.layers == 62 ? s.hidden / s.heads : s.head_dim);
  config.set("sliding_window", *window);
  Json::Array types = gemma3_layer_types(file, s, config);
  config.set("layer_types", std::move(types));
  config.set("use_bidirectional_attention", false);
  config.set("rope_theta", theta);
  config.set("rope_local_base_freq", local);
  config.set("rope_scaling", scaling);
  config.set("rope_parameters",
             Json::Object{{"full_attention", rope_parameters(scaling, theta)},
                          {"sliding_attention", rope_parameters(Json(), local)}});
  return config;
}

const std::vector<GgufArchitecture>& architectures() {
  static const std::vector<GgufArchitecture> kTable = {
      {"llama", kLlamaLayer, C::kNone, llama_config, {"rope_freqs.weight"}},
      {"gemma3", kGemma3Layer, C::kMinusOne, gemma3_config, {}},
  };
  return kTable;
}

int64_t size_of(GgufDim dim, const GgufSizes& s) {
  switch (dim) {
    case D::kOne:
      return 1;
    case D::kHidden:
      return s.hidden;
    case D::kInter:
      return s.inter;
    case D::kQuery:
      return s.heads * s.head_dim;
    case D::kKeyValue:
      return s.kv_heads * s.head_dim;
    case D::kHeadDim:
      return s.head_dim;
    case D::kVocab:
      return s.vocab;
  }
  return 0;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t d : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(d);
  return text + "]";
}

/// A size between 1 and 2^31, so that products of two fit.
int64_t size_key(const GgufFile& file, const std::string& key, std::optional<int64_t> fallback) {
  const auto found = file.get_int(key);
  if (!found && !fallback) fail_input(file.where(), ": ", key, ": the key is missing");
  const int64_t size = found ? *found : *fallback;
  if (size < 1 || size > INT32_MAX)
    fail_input(file.where(), ": ", key, ": ", size, " is no sensible size");
  return size;
}

}  // namespace

double tidy_float(double value) {
  const auto narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, narrow);
  double tidy = value;
  std::from_chars(text, end.ptr, tidy);
  return tidy;
}

const GgufArchitecture& find_architecture(const GgufFile& file) {
  const auto name = file.get_string("general.architecture");
  if (!name) fail_input(file.where(), ": general.architecture: the key is missing");
  std::string known;
  for (const GgufArchitecture& a : architectures()) {
    if (a.name == *name) return a;
    known.append(known.empty() ? "" : ", ").append(a.name);
  }
  fail_input(file.where(), ": general.architecture: \"", printable(*name),
             "\" cannot be converted; supported are ", known);
}

GgufSizes read_sizes(const GgufFile& file, const GgufArchitecture& architecture) {
  const std::string a(architecture.name);
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (!embedding || embedding->shape.size() != 2)
    fail_input(file.where(), ": token_embd.weight: the tensor is missing or no matrix");
  GgufSizes s{};
  s.vocab = embedding->shape[0];
  s.hidden = size_key(file, a + ".embedding_length", {});
  s.inter = size_key(file, a + ".feed_forward_length", {});
  s.layers = size_key(file, a + ".block_count", {});
  s.heads = size_key(file, a + ".attention.head_count", {});
  s.kv_heads = size_key(file, a + ".attention.head_count_kv", s.heads);
  s.context = size_key(file, a + ".context_length", {});
  s.head_dim = size_key(file, a + ".attention.key_length", s.hidden / s.heads);
  const auto bad = [&](std::string_view key, const auto&... what) {
    fail_input(file.where(), ": ", a, ".", key, ": ", what...);
  };
  if (s.heads % s.kv_heads != 0)
    bad("attention.head_count_kv", s.heads, " heads cannot be shared by ", s.kv_heads);
  if (s.head_dim % 2 != 0) bad("attention.key_length", s.head_dim, " is odd");
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    const int64_t size = size_key(file, a + "." + key, s.head_dim);
    if (size != s.head_dim) bad(key, size, " differs from the head size ", s.head_dim);
  }
  const auto eps = file.get_float(a + ".attention.layer_norm_rms_epsilon");
  if (!eps || !(*eps > 0 && *eps < 1))
    bad("attention.layer_norm_rms_epsilon", "a small positive number is wanted");
  s.norm_eps = tidy_float(*eps);
  return s;
}

std::vector<GgufWeight> plan_weights(const GgufFile& file, const GgufArchitecture& architecture,
                                     const GgufSizes& sizes) {
  std::vector<GgufWeight> plan;
  std::set<std::string_view> used(architecture.consumed.begin(), architecture.consumed.end());
  const auto add = [&](const std::string& from, std::string name, const GgufRow& row) {
    const GgufTensor* t = file.find(from);
    if (!t) fail_input(file.where(), ": ", from, ": the tensor is missing");
    std::vector<int64_t> wanted{size_of(row.cols, sizes)};
    if (row.rows != D::kOne) wanted.insert(wanted.begin(), size_of(row.rows, sizes));
    if (t->shape != wanted)
      fail_input(file.where(), ": ", from, ": its shape is ", shape_text(t->shape), ", ",
                 shape_text(wanted), " is wanted");
    used.insert(t->name);
    plan.push_back({t, std::move(name), row.change});
  };
  const GgufRow table{"", "", D::kVocab, D::kHidden, C::kNone};
  add("token_embd.weight", "model.embed_tokens.weight", table);
  for (int64_t n = 0; n < sizes.layers; ++n)
    for (const GgufRow& row : architecture.layer)
      add(str("blk.", n, ".", row.gguf), str("model.layers.", n, ".", row.hf), row);
  add("output_norm.weight", "model.norm.weight", {"", "", D::kOne, D::kHidden, architecture.norm});
  if (file.find("output.weight")) add("output.weight", "lm_head.weight", table);
  for (const GgufTensor& t : file.tensors())
    if (!used.contains(t.name))
      fail_input(file.where(), ": ", printable(t.name), ": a ", architecture.name,
                 " model has no such tensor");
  return plan;
}

}  // namespace ft
