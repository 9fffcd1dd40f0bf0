// Model folders that cannot be used: status 3, the file and what is wrong with it named.
#include "bad_input/bad_input.h"

namespace ft {
namespace {

using Args = std::vector<std::string>;

class BadModel : public testing::TestWithParam<BadInput> {};
TEST_P(BadModel, IsRefused) {
  check_bad_input(GetParam());
}

const std::string kEmbed = "model.embed_tokens.weight", kUp = "model.layers.1.mlp.up_proj.weight";

Args with_config_text(Scene& s, const std::string& text) {
  return s.model([&](const fs::path& m) { write_file(m / "config.json", text); });
}
Args with_rope(Scene& s, Json rope) {
  return s.model_config("rope_parameters", std::move(rope));
}

INSTANTIATE_TEST_SUITE_P(
    Config, BadModel,
    testing::ValuesIn(std::vector<BadInput>{
        {"folder_is_absent",
         3,
         {"absent", "Hugging Face"},
         [](Scene& s) { return s.set("model", s.path("absent")); }},
        {"folder_is_a_file",
         3,
         {"model"},
         [](Scene& s) { return s.set("model", s.work.file("model", "")); }},
        {"no_config",
         3,
         {"config.json"},
         [](Scene& s) {
           return s.model([](const fs::path& m) { fs::remove(m / "config.json"); });
         }},
        {"empty_config", 3, {"config.json"}, [](Scene& s) { return with_config_text(s, ""); }},
        {"config_is_cut",
         3,
         {"config.json"},
         [](Scene& s) { return with_config_text(s, "{\"model_type\": \"lla"); }},
        {"config_is_a_list",
         3,
         {"config.json", "object"},
         [](Scene& s) { return with_config_text(s, "[]"); }},
        {"config_is_deep",
         3,
         {"config.json"},
         [](Scene& s) { return with_config_text(s, std::string(100000, '[')); }},
        {"config_repeats_a_key",
         3,
         {"config.json", "model_type"},
         [](Scene& s) {
           return with_config_text(s, R"({"model_type": "llama", "model_type": "llama"})");
         }},
        {"no_model_type",
         3,
         {"config.json", "model_type"},
         [](Scene& s) { return s.model_config("model_type", nullptr); }},
        {"unknown_model_type",
         3,
         {"bert", "llama"},
         [](Scene& s) { return s.model_config("model_type", "bert"); }},
        {"hidden_size_is_text",
         3,
         {"config.json", "hidden_size"},
         [](Scene& s) { return s.model_config("hidden_size", "64"); }},
        {"hidden_size_is_negative",
         3,
         {"hidden_size", "-64"},
         [](Scene& s) { return s.model_config("hidden_size", -64); }},
        {"hidden_size_is_huge",
         3,
         {"hidden_size"},
         [](Scene& s) { return s.model_config("hidden_size", int64_t{1} << 60); }},
        {"a_million_layers",
         3,
         {"num_hidden_layers"},
         [](Scene& s) { return s.model_config("num_hidden_layers", 1 << 20); }},
        {"two_billion_layers",
         3,
         {"num_hidden_layers"},
         [](Scene& s) { return s.model_config("num_hidden_layers", int64_t{1} << 31); }},
        {"no_heads",
         3,
         {"num_attention_heads"},
         [](Scene& s) { return s.model_config("num_attention_heads", 0); }},
        {"heads_do_not_divide",
         3,
         {"num_key_value_heads"},
         [](Scene& s) { return s.model_config("num_key_value_heads", 3); }},
        {"odd_head_size", 3, {"head_dim"}, [](Scene& s) { return s.model_config("head_dim", 15); }},
        {"other_vocabulary_size",
         3,
         {kEmbed, "320"},
         [](Scene& s) { return s.model_config("vocab_size", 400); }},
        {"unknown_activation",
         3,
         {"hidden_act", "swish7"},
         [](Scene& s) { return s.model_config("hidden_act", "swish7"); }},
        {"negative_eps",
         3,
         {"rms_norm_eps"},
         [](Scene& s) { return s.model_config("rms_norm_eps", -1.0); }},
        {"unknown_rope",
         3,
         {"rope_type", "spiral"},
         [](Scene& s) {
           return with_rope(s, Json::Object{{"rope_type", "spiral"}});
         }},
        {"rope_theta_zero",
         3,
         {"rope_theta"},
         [](Scene& s) {
           return with_rope(s, Json::Object{{"rope_theta", 0.0}});
         }},
        {"rope_without_factor",
         3,
         {"factor"},
         [](Scene& s) {
           return with_rope(s, Json::Object{{"rope_type", "linear"}});
         }},
        {"rope_is_a_list",
         3,
         {"rope_parameters"},
         [](Scene& s) { return with_rope(s, Json::Array{}); }},
        {"tied_is_text",
         3,
         {"tie_word_embeddings"},
         [](Scene& s) { return s.model_config("tie_word_embeddings", "yes"); }},
        {"unknown_quantisation",
         3,
         {"quantization_config", "gptq"},
         [](Scene& s) {
           return s.model_config("quantization_config", Json::Object{{"quant_method", "gptq"}});
         }},
    }),
    bad_input_name);

/// Training on a model whose weight file has these bytes.
Args with_weights(Scene& s, const std::function<std::string(std::string)>& change) {
  return s.model([&](const fs::path& m) {
    write_file(m / "model.safetensors", change(read_file(m / "model.safetensors")));
  });
}
Args with_tensors(Scene& s, const std::function<void(TensorMap&)>& change) {
  return s.model([&](const fs::path& m) { edit_tensors(m / "model.safetensors", change); });
}
/// A file of a header and `data` zero bytes.
std::string container(const std::string& header, size_t data = 0) {
  std::string bytes;
  for (size_t i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i));
  return bytes + header + std::string(data, '\0');
}
Args with_container(Scene& s, const std::string& header, size_t data) {
  return with_weights(s, [&](const std::string&) { return container(header, data); });
}
/// Weights in one shard, with this index.
Args with_index(Scene& s, const std::string& index) {
  return s.model([&](const fs::path& m) {
    fs::rename(m / "model.safetensors", m / "model-00001-of-00001.safetensors");
    write_file(m / "model.safetensors.index.json", index);
  });
}

const std::string kFile = "model.safetensors";

INSTANTIATE_TEST_SUITE_P(
    Weights, BadModel,
    testing::ValuesIn(std::vector<BadInput>{
        {"none",
         3,
         {"safetensors"},
         [](Scene& s) { return s.model([](const fs::path& m) { fs::remove(m / kFile); }); }},
        {"only_pickled",
         3,
         {"pytorch_model.bin", "safetensors"},
         [](Scene& s) {
           return s.model(
               [](const fs::path& m) { fs::rename(m / kFile, m / "pytorch_model.bin"); });
         }},
        {"empty", 3, {kFile}, [](Scene& s) { return with_weights(s, [](auto) { return ""; }); }},
        {"cut",
         3,
         {kFile},
         [](Scene& s) {
           return with_weights(s, [](std::string b) { return b.substr(0, b.size() - 1); });
         }},
        {"longer_than_said",
         3,
         {kFile},
         [](Scene& s) { return with_weights(s, [](std::string b) { return b + "x"; }); }},
        {"header_length_lies",
         3,
         {kFile},
         [](Scene& s) {
           return with_weights(s,
                               [](std::string b) { return std::string(8, '\x7f') + b.substr(8); });
         }},
        {"header_is_no_json",
         3,
         {kFile},
         [](Scene& s) { return with_container(s, "{\"a\": ", 0); }},
        {"header_is_not_utf8",
         3,
         {kFile},
         [](Scene& s) { return with_container(s, "{\"a\xff\": 1}", 0); }},
        {"unknown_dtype",
         3,
         {kFile, "w"},
         [](Scene& s) {
           return with_container(
               s, R"({"w": {"dtype": "F5", "shape": [1], "data_offsets": [0, 4]}})", 4);
         }},
        {"shape_overflows",
         3,
         {kFile, "w"},
         [](Scene& s) {
           return with_container(
               s,
               R"({"w": {"dtype": "F32", "shape": [4194305, 4194305, 211106198978564], "data_offsets": [0, 16]}})",
               16);
         }},
        {"negative_shape",
         3,
         {kFile, "w"},
         [](Scene& s) {
           return with_container(
               s, R"({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", 4);
         }},
        {"offsets_overlap",
         3,
         {kFile},
         [](Scene& s) {
           return with_container(s, R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
 "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}})",
                                 12);
         }},
        {"offsets_outside",
         3,
         {kFile, "a"},
         [](Scene& s) {
           return with_container(
               s, R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [80, 88]}})", 8);
         }},
        {"missing_tensor",
         3,
         {"missing", kUp},
         [](Scene& s) { return with_tensors(s, [](TensorMap& all) { all.erase(kUp); }); }},
        {"surplus_tensor",
         3,
         {"model.layers.9.extra"},
         [](Scene& s) {
           return with_tensors(s,
                               [](TensorMap& all) { all["model.layers.9.extra"] = all.at(kUp); });
         }},
        {"wrong_shape",
         3,
         {kUp, "[64, 176]"},
         [](Scene& s) {
           return with_tensors(s, [](TensorMap& all) { all[kUp] = all.at(kUp).t().contiguous(); });
         }},
        {"whole_numbers",
         3,
         {kUp},
         [](Scene& s) {
           return with_tensors(s, [](TensorMap& all) { all[kUp] = all.at(kUp).to(at::kInt); });
         }},
        {"tied_heads_differ",
         3,
         {"lm_head.weight", "tie_word_embeddings"},
         [](Scene& s) { return s.model_config("tie_word_embeddings", true); }},
        {"index_is_no_json", 3, {"index.json"}, [](Scene& s) { return with_index(s, "{"); }},
        {"index_without_map",
         3,
         {"index.json", "weight_map"},
         [](Scene& s) { return with_index(s, "{}"); }},
        {"index_names_numbers",
         3,
         {"index.json"},
         [](Scene& s) { return with_index(s, R"({"weight_map": {"a": 7}})"); }},
        {"index_leaves_the_folder",
         3,
         {"index.json", "../"},
         [](Scene& s) {
           return with_index(s, R"({"weight_map": {"a": "../outside.safetensors"}})");
         }},
        {"index_is_absolute",
         3,
         {"index.json"},
         [](Scene& s) { return with_index(s, R"({"weight_map": {"a": "/etc/passwd"}})"); }},
        {"shard_is_absent",
         3,
         {"model-00002-of-00002.safetensors"},
         [](Scene& s) {
           return with_index(s, R"({"weight_map": {"a": "model-00002-of-00002.safetensors"}})");
         }},
        {"tensor_is_not_in_its_shard",
         3,
         {"model-00001-of-00001.safetensors", "index.json"},
         [](Scene& s) {
           return with_index(s,
                             R"({"weight_map": {"nowhere": "model-00001-of-00001.safetensors"}})");
         }},
    }),
    bad_input_name);

}  // namespace
}  // namespace ft
