// Adapter folders as PEFT writes them: which layers their configuration means, and what is refused.
#include "adapters/adapters.h"
#include "base/error.h"
#include "data/temporary_file.h"
#include "fixtures.h"

namespace ft {
namespace {

constexpr int64_t kHidden = 8, kInner = 12, kVocab = 16, kLayers = 3, kRank = 2;

const char* const kConfig = R"({"model_type": "llama", "vocab_size": 16, "hidden_size": 8,
  "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2,
  "num_key_value_heads": 2, "tie_word_embeddings": true})";

Tensor filled(std::vector<int64_t> shape, double value) {
  return ops::zeros(shape, at::kFloat).add_(value);
}

struct Shape {
  const char* name;
  int64_t out, in;
};
const std::vector<Shape> kLinears = {
    {"self_attn.q_proj", kHidden, kHidden}, {"self_attn.k_proj", kHidden, kHidden},
    {"self_attn.v_proj", kHidden, kHidden}, {"self_attn.o_proj", kHidden, kHidden},
    {"mlp.gate_proj", kInner, kHidden},     {"mlp.up_proj", kInner, kHidden},
    {"mlp.down_proj", kHidden, kInner}};

std::string layer_path(int64_t layer, const std::string& module) {
  return str("model.layers.", layer, ".", module);
}

/// A model folder and beside it an adapter folder, both small and made by the test.
class PeftFolder : public testing::Test {
 protected:
  void SetUp() override {
    NamedTensors weights = {{"model.embed_tokens.weight", filled({kVocab, kHidden}, 0.1)},
                            {"model.norm.weight", filled({kHidden}, 1)}};
    for (int64_t i = 0; i < kLayers; ++i) {
      for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"})
        weights.emplace_back(layer_path(i, norm), filled({kHidden}, 1));
      for (const Shape& s : kLinears)
        weights.emplace_back(layer_path(i, s.name) + ".weight", filled({s.out, s.in}, 0.05));
    }
    fs::create_directories(adapter());
    save_tensors(folder_ / "model.safetensors", weights);
  }

  fs::path adapter() const { return folder_ / "adapter"; }

  /// Writes the adapter: `config` are members beside peft_type and r, `modules` what the file
  /// holds.
  void write(const std::string& config, const std::vector<std::string>& modules) {
    write_file(adapter() / "adapter_config.json",
               str(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, )", config, "}"));
    NamedTensors tensors;
    for (const std::string& module : modules) {
      for (const Shape& s : kLinears) {
        if (!module.ends_with(s.name)) continue;
        const std::string name = "base_model.model." + module;
        tensors.emplace_back(name + ".lora_A.weight", filled({kRank, s.in}, 0.5));
        tensors.emplace_back(name + ".lora_B.weight", filled({s.out, kRank}, 0.25));
      }
      if (module == "lm_head" || module == "model.embed_tokens")
        tensors.emplace_back("base_model.model." + module + ".weight",
                             filled({kVocab, kHidden}, 0.3));
    }
    save_tensors(adapter() / "adapter_model.safetensors", tensors);
  }

  /// The layers that carry an adapter once it is loaded.
  std::vector<std::string> adapted() {
    model_ = load_model(folder_, at::kFloat, at::kCPU);
    set_ = load_adapter(*model_, adapter());
    std::vector<std::string> names;
    for (const Linear* linear : model_->decoder.linears())
      if (linear->adapter) names.push_back(linear->name);
    return names;
  }

  /// Loads, saves, loads the saved one: the same layers.
  void expect_layers(const std::vector<std::string>& names) {
    EXPECT_EQ(adapted(), names);
    save_adapter(*model_, set_, adapter());
    EXPECT_EQ(adapted(), names);
  }

  std::string error() {
    return error_of([this] { adapted(); });
  }

  TemporaryFile config_{"config.json", kConfig};
  fs::path folder_ = fs::path(config_.path()).parent_path();
  std::unique_ptr<Model> model_;
  AdapterSet set_;
};

TEST_F(PeftFolder, NamesThatTheModelLacksAreDropped) {
  write(R"("target_modules": ["c_attn", "q_proj", "wi"])",
        {layer_path(0, "self_attn.q_proj"), layer_path(1, "self_attn.q_proj"),
         layer_path(2, "self_attn.q_proj")});
  expect_layers({layer_path(0, "self_attn.q_proj"), layer_path(1, "self_attn.q_proj"),
                 layer_path(2, "self_attn.q_proj")});
  EXPECT_EQ(set_.config.target_modules, std::vector<std::string>{"q_proj"});
}

TEST_F(PeftFolder, LayersToTransform) {
  const std::vector<std::string> two = {layer_path(0, "mlp.up_proj"), layer_path(2, "mlp.up_proj")};
  write(R"("target_modules": ["up_proj"], "layers_to_transform": [0, 2])", two);
  expect_layers(two);
  const std::vector<std::string> one = {layer_path(1, "mlp.up_proj")};
  write(R"("target_modules": ["up_proj"], "layers_to_transform": 1, "layers_pattern": "layers")",
        one);
  expect_layers(one);
  write(R"("target_modules": ["up_proj"], "layers_to_transform": [1], "layers_pattern": ["h"])",
        one);
  EXPECT_NE(error().find("matches no layer"), std::string::npos);
  write(R"("target_modules": ["up_proj"], "layers_to_transform": ["1"])", one);
  EXPECT_NE(error().find("layers_to_transform: layer numbers are wanted"), std::string::npos);
}

TEST_F(PeftFolder, ExcludedModules) {
  const std::vector<std::string> two = {layer_path(1, "mlp.gate_proj"),
                                        layer_path(2, "mlp.gate_proj")};
  write(R"("target_modules": ["gate_proj"], "exclude_modules": ["layers.0.mlp.gate_proj"])", two);
  expect_layers(two);
  write(R"("target_modules": ".*(gate|up)_proj", "exclude_modules": ".*up_proj|.*\\.0\\..*")", two);
  expect_layers(two);
}

TEST_F(PeftFolder, SavedModulesCarryNoAdapter) {
  const std::vector<std::string> q = {layer_path(0, "self_attn.q_proj"),
                                      layer_path(1, "self_attn.q_proj"),
                                      layer_path(2, "self_attn.q_proj")};
  std::vector<std::string> stored = q;
  stored.push_back("lm_head");
  write(R"("target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head"])", stored);
  expect_layers(q);
  EXPECT_NE(model_->decoder.head, model_->decoder.embed);
}

TEST_F(PeftFolder, AdaptersOnHeadAndEmbeddingAreRefused) {
  write(R"("target_modules": ["q_proj", "lm_head"])", {});
  EXPECT_NE(error().find("lm_head: adapters on the output head"), std::string::npos);
  write(R"("target_modules": ["q_proj", "embed_tokens"])", {});
  EXPECT_NE(error().find("embed_tokens: adapters on the output head"), std::string::npos);
}

TEST_F(PeftFolder, StartsThatChangeTheBaseAreRefused) {
  const std::vector<std::string> q = {layer_path(1, "self_attn.q_proj")};
  for (const char* init : {"pissa", "pissa_niter_16", "olora", "corda", "loftq"}) {
    write(str(R"("target_modules": ["layers.1.self_attn.q_proj"], "init_lora_weights": ")", init,
              "\""),
          q);
    EXPECT_NE(error().find("init_lora_weights"), std::string::npos) << init;
  }
  for (const char* init : {"true", "false", "\"gaussian\"", "\"eva\"", "\"orthogonal\""}) {
    write(str(R"("target_modules": ["layers.1.self_attn.q_proj"], "init_lora_weights": )", init),
          q);
    EXPECT_EQ(adapted(), q) << init;
  }
}

TEST_F(PeftFolder, EveryStoredTensorIsUsedAndNoneIsMissing) {
  write(R"("target_modules": ["q_proj"])", {layer_path(0, "self_attn.q_proj")});
  EXPECT_NE(error().find("missing"), std::string::npos);
  write(R"("target_modules": ["layers.0.self_attn.q_proj"])",
        {layer_path(0, "self_attn.q_proj"), layer_path(1, "self_attn.q_proj")});
  EXPECT_NE(error().find("not used by"), std::string::npos);
}

}  // namespace
}  // namespace ft
