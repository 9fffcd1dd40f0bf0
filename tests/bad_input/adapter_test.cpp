// Adapter folders that cannot be used, or do not fit the model: status 3, file and tensor named.
#include "bad_input/bad_input.h"

namespace ft {
namespace {

using Args = std::vector<std::string>;

class BadAdapter : public testing::TestWithParam<BadInput> {};
TEST_P(BadAdapter, IsRefused) {
  check_bad_input(GetParam());
}

const std::string kAdapterFile = "adapter_model.safetensors",
                  kAdapterConfig = "adapter_config.json";

fs::path copy_adapter(const Scene& s) {
  fs::create_directories(s.work / "adapter");
  for (const std::string& name : {kAdapterFile, kAdapterConfig})
    write_file(s.work / "adapter" / name, read_file(tiny_model().parent_path() / "adapter" / name));
  return s.work / "adapter";
}
/// `eval` with a changed copy of a good adapter.
Args with_adapter(Scene& s, const std::function<void(const fs::path&)>& change) {
  const fs::path folder = copy_adapter(s);
  change(folder);
  return {"eval",          "--model", tiny_model().string(), "--adapter",
          folder.string(), "--data",  s.path("eval.jsonl")};
}
Args with_adapter_config(Scene& s, const std::string& key, Json value) {
  return with_adapter(s, [&](const fs::path& a) {
    edit_json(a / kAdapterConfig, [&](Json& c) { c.set(key, std::move(value)); });
  });
}
Args with_adapter_tensors(Scene& s, const std::function<void(TensorMap&)>& change) {
  return with_adapter(s, [&](const fs::path& a) { edit_tensors(a / kAdapterFile, change); });
}
const std::string kLora = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

INSTANTIATE_TEST_SUITE_P(
    Folder, BadAdapter,
    testing::ValuesIn(std::vector<BadInput>{
        {"folder_is_absent",
         3,
         {"adapter_config.json"},
         [](Scene& s) { return with_adapter(s, [](const fs::path& a) { fs::remove_all(a); }); }},
        {"no_config",
         3,
         {"adapter_config.json"},
         [](Scene& s) {
           return with_adapter(s, [](const fs::path& a) { fs::remove(a / kAdapterConfig); });
         }},
        {"config_is_no_json",
         3,
         {"adapter_config.json"},
         [](Scene& s) {
           return with_adapter(s, [](const fs::path& a) { write_file(a / kAdapterConfig, "{"); });
         }},
        {"other_method",
         3,
         {"peft_type", "PREFIX_TUNING"},
         [](Scene& s) { return with_adapter_config(s, "peft_type", "PREFIX_TUNING"); }},
        {"no_method",
         3,
         {"peft_type"},
         [](Scene& s) { return with_adapter_config(s, "peft_type", nullptr); }},
        {"rank_zero",
         3,
         {"adapter_config.json", "r"},
         [](Scene& s) { return with_adapter_config(s, "r", 0); }},
        {"rank_is_huge",
         3,
         {"adapter"},
         [](Scene& s) { return with_adapter_config(s, "r", int64_t{1} << 50); }},
        {"rank_is_text",
         3,
         {"adapter_config.json", "r"},
         [](Scene& s) { return with_adapter_config(s, "r", "8"); }},
        {"alpha_zero",
         3,
         {"lora_alpha"},
         [](Scene& s) { return with_adapter_config(s, "lora_alpha", 0); }},
        {"unknown_bias",
         3,
         {"bias"},
         [](Scene& s) { return with_adapter_config(s, "bias", "some"); }},
        {"targets_are_numbers",
         3,
         {"target_modules"},
         [](Scene& s) { return with_adapter_config(s, "target_modules", Json::Array{1}); }},
        {"targets_of_another_model",
         3,
         {"target_modules", "c_attn"},
         [](Scene& s) { return with_adapter_config(s, "target_modules", Json::Array{"c_attn"}); }},
        {"pattern_is_negative",
         3,
         {"rank_pattern"},
         [](Scene& s) {
           return with_adapter_config(s, "rank_pattern", Json::Object{{"q_proj", -1}});
         }},
        {"no_weights",
         3,
         {kAdapterFile},
         [](Scene& s) {
           return with_adapter(s, [](const fs::path& a) { fs::remove(a / kAdapterFile); });
         }},
        {"only_pickled",
         3,
         {"adapter_model.bin", "safetensors"},
         [](Scene& s) {
           return with_adapter(
               s, [](const fs::path& a) { fs::rename(a / kAdapterFile, a / "adapter_model.bin"); });
         }},
        {"weights_are_cut",
         3,
         {kAdapterFile},
         [](Scene& s) {
           return with_adapter(s, [](const fs::path& a) {
             write_file(a / kAdapterFile, read_file(a / kAdapterFile).substr(0, 5000));
           });
         }},
        {"wrong_shape",
         3,
         {kAdapterFile, kLora, "[4, 64]", "[8, 64]"},
         [](Scene& s) {
           return with_adapter_tensors(
               s, [](TensorMap& all) { all[kLora] = all.at(kLora).narrow(0, 0, 4).clone(); });
         }},
        {"missing_tensor",
         3,
         {kAdapterFile, kLora},
         [](Scene& s) {
           return with_adapter_tensors(s, [](TensorMap& all) { all.erase(kLora); });
         }},
        {"surplus_tensor",
         3,
         {kAdapterFile, "layers.7"},
         [](Scene& s) {
           return with_adapter_tensors(s, [](TensorMap& all) {
             all["base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"] = all.at(kLora);
           });
         }},
        {"made_for_a_larger_model",
         3,
         {kAdapterFile, "shape"},
         [](Scene& s) {
           return with_adapter_tensors(s, [](TensorMap& all) {
             for (auto& [name, tensor] : all) tensor = ops::cat({tensor, tensor}, 1);
           });
         }},
        {"not_finite_to_merge",
         3,
         {"adapter", "finite"},
         [](Scene& s) {
           Args args = with_adapter_tensors(s, [](TensorMap& all) {
             for (auto& [name, tensor] : all) tensor.fill_(std::nan(""));
           });
           args[0] = "merge";
           args[5] = "--output";
           args[6] = s.path("merged");
           return args;
         }},
        {"to_go_on_from",
         3,
         {kAdapterFile, kLora},
         [](Scene& s) {
           const Args args = with_adapter_tensors(s, [](TensorMap& all) { all.erase(kLora); });
           return s.set("lora.resume_from", args[4]);
         }},
    }),
    bad_input_name);

}  // namespace
}  // namespace ft
