// Image and text checkpoints (Gemma 3 of 4 billion weights and more): the language model is
// trained, the vision tower goes along unchanged. The tiny text model stands in for the language
// part, under the names of the Hub.
#include "cli/edit_model.h"
#include "cli/tiny_run.h"

namespace ft {
namespace {

struct Models {
  fs::path text, vision;
};

Models make_models(const TestFolder& work) {
  const fs::path reference = test_data() / "parity/A_forward/gemma3_pattern/model";
  const Models made{work / "text-model", work / "vision-model"};
  for (const fs::path& folder : {made.text, made.vision}) fs::create_directories(folder);
  Json text = read_json(reference / "config.json");
  text.erase("final_logit_softcapping");  // transformers has none in the large model
  write_file(made.text / "config.json", text.dump());
  text.erase("architectures");
  write_file(made.vision / "config.json",
             Json(Json::Object{{"architectures", Json::Array{"Gemma3ForConditionalGeneration"}},
                               {"model_type", "gemma3"},
                               {"text_config", text},
                               {"vision_config", Json::Object{{"hidden_size", 4}}},
                               {"mm_tokens_per_image", 256},
                               {"tie_word_embeddings", true}})
                 .dump());
  const TensorMap tensors = read_tensors(reference / "model.safetensors");
  write_tensors(made.text / "model.safetensors", tensors);
  TensorMap all;
  for (const auto& [name, tensor] : tensors) all["language_model." + name] = tensor;
  all["vision_tower.vision_model.embeddings.patch_embedding.weight"] =
      ops::full({4, 4}, 0.5, at::kBFloat16);
  all["multi_modal_projector.mm_input_projection_weight"] = ops::full({8}, 0.3, at::kFloat);
  write_tensors(made.vision / "model.safetensors", all);
  return made;
}

std::string tokens(const TestFolder& work) {
  std::string lines;
  for (int i = 0; i < 12; ++i)
    lines += str(R"({"input_ids": [)", 5 + i, ", 7, ", 9 + 2 * i, ", 11, 12, 13, ", 14 + i, "]}\n");
  return work.file("tokens.jsonl", lines);
}

double eval_loss(const fs::path& model, const std::string& data,
                 const std::vector<std::string>& more = {}) {
  std::vector<std::string> args = {"eval", "--model", model.string(), "--data",
                                   data,   "--json",  "--set",        "dtype=float32"};
  args.insert(args.end(), more.begin(), more.end());
  return run_ok(args).json().get("loss")->number();
}

TEST(VisionModel, TheLanguageModelIsTrainedAndTheTowerStays) {
  const TestFolder work;
  const std::string data = tokens(work);
  const auto [plain_model, model] = make_models(work);
  EXPECT_DOUBLE_EQ(eval_loss(model, data), eval_loss(plain_model, data));
  const auto train = [&](const fs::path& of, const std::string& name) {
    run_ok(
        with_settings({"train"}, {"model=" + of.string(), "data.train=" + data, "method=lora",
                                  "dtype=float32", "train.learning_rate=1e-2", "data.packing=true",
                                  "data.max_length=32", "output_dir=" + (work / name).string()}));
    return work / name / "final";
  };
  const fs::path adapter = train(model, "vision"), text_adapter = train(plain_model, "text");
  const TensorMap ours = read_tensors(adapter / "adapter_model.safetensors"),
                  plain = read_tensors(text_adapter / "adapter_model.safetensors");
  ASSERT_EQ(ours.size(), plain.size());
  for (const auto& [name, tensor] : plain) {
    const size_t trunk = name.find("model.layers.");
    const std::string here =
        name.substr(0, trunk) + "model.language_model." + name.substr(trunk + 6);
    ASSERT_TRUE(ours.contains(here)) << here;
    ASSERT_TRUE(ours.at(here).equal(tensor)) << name;
  }
  // A list of names would match the tower's layers too.
  EXPECT_TRUE(read_json(adapter / "adapter_config.json").get("target_modules")->is_string());
  const double tuned = eval_loss(model, data, {"--adapter", adapter.string()});
  EXPECT_DOUBLE_EQ(tuned, eval_loss(plain_model, data, {"--adapter", text_adapter.string()}));

  const auto merge = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> args = {
        "merge",          "--model",  model.string(),        "--adapter",
        adapter.string(), "--output", (work / name).string()};
    args.insert(args.end(), more.begin(), more.end());
    run_ok(args);
    EXPECT_NEAR(eval_loss(work / name, data), tuned, 0.01);  // written in bfloat16
    return work / name;
  };
  const fs::path whole = merge("merged", {}), text = merge("merged-text", {"--text-only"});
  const TensorMap before = read_tensors(model / "model.safetensors"),
                  after = read_tensors(whole / "model.safetensors");
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [name, tensor] : before) {
    ASSERT_TRUE(after.contains(name)) << name;
    if (!name.starts_with("language_model.")) {
      EXPECT_TRUE(after.at(name).equal(tensor)) << name;
    }
  }
  const Json config = read_json(whole / "config.json");
  EXPECT_EQ(config.get("model_type")->string(), "gemma3");
  EXPECT_EQ(config.get("vision_config")->get("hidden_size")->integer(), 4);
  EXPECT_EQ(read_json(text / "config.json").get("model_type")->string(), "gemma3_text");
  for (const auto& [name, tensor] : read_tensors(text / "model.safetensors"))
    EXPECT_TRUE(name.starts_with("model.")) << name;
}

}  // namespace
}  // namespace ft
