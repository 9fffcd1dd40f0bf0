// Tiny GGUF files made here, converted and looked at with our own readers.
#include "data/gguf_convert.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <tuple>

#include "base/error.h"
#include "base/gguf_dequant.h"
#include "base/json.h"
#include "base/safetensors.h"
#include "data/gguf_convert_rope.h"
#include "gguf_tiny.h"

namespace ft {
namespace {

std::map<std::string, StoredTensor> tensors_of(const fs::path& folder) {
  std::map<std::string, StoredTensor> all;
  for (auto& t : read_model_tensors(folder)) all.emplace(t.name, t);
  return all;
}

std::vector<float> floats_of(const StoredTensor& t) {
  std::vector<float> v(static_cast<size_t>(t.numel()));
  if (t.dtype == DType::kF32) {
    std::memcpy(v.data(), t.bytes.data(), t.bytes.size());
  } else {
    EXPECT_EQ(t.dtype, DType::kBF16);
    dequantize(GgmlType::kBF16, t.bytes.data(), v.size(), v.data());
  }
  return v;
}

TEST(GgufConvert, LlamaWeights) {
  const ScratchFolder folder;
  Tiny tiny;
  tiny.layers = 2;
  convert_gguf(folder.write("a.gguf", tiny.build()), folder / "out");
  const auto t = tensors_of(folder / "out");
  EXPECT_EQ(t.size(), 2u + 2 * 9);
  const auto q = floats_of(t.at("model.layers.1.self_attn.q_proj.weight"));
  // Heads of 4 rows: halves (0, 1 | 2, 3) are stored interleaved as rows 0, 2, 1, 3.
  const int rows[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (size_t r = 0; r < 8; ++r) EXPECT_EQ(q[r * 8], static_cast<float>(rows[r] * 8)) << r;
  const auto k = floats_of(t.at("model.layers.0.self_attn.k_proj.weight"));
  for (size_t r = 0; r < 4; ++r) EXPECT_EQ(k[r * 8 + 7], static_cast<float>(rows[r] * 8 + 7));
  EXPECT_EQ(floats_of(t.at("model.layers.0.self_attn.v_proj.weight")), ramp(32, 0));
  EXPECT_EQ(floats_of(t.at("model.norm.weight")), ramp(8, 1));
  EXPECT_EQ(t.at("model.layers.0.mlp.down_proj.weight").shape, (std::vector<int64_t>{8, 6}));
  EXPECT_EQ(t.at("model.embed_tokens.weight").dtype, DType::kF32);  // all matrices are
}

TEST(GgufConvert, LlamaConfig) {
  const ScratchFolder folder;
  Tiny tiny;
  tiny.extra = [](GgufBytes& g) {
    g.real("llama.rope.freq_base", 500000.0f).integer("tokenizer.ggml.padding_token_id", 5);
    g.tensor("output.weight", {8, 6}, 1, std::string(96, '\0'));  // float16
  };
  convert_gguf(folder.write("a.gguf", tiny.build()), folder / "out");
  const Json c = read_json(folder / "out" / "config.json");
  EXPECT_EQ(c.get("architectures")->array()[0].string(), "LlamaForCausalLM");
  EXPECT_EQ(c.get("rms_norm_eps")->number(), 1e-5);
  EXPECT_EQ(c.get("rope_theta")->number(), 500000.0);
  EXPECT_TRUE(c.get("rope_scaling")->is_null());
  EXPECT_EQ(c.get("rope_parameters")->dump(),
            R"({"rope_type": "default", "rope_theta": 500000.0})");
  EXPECT_EQ(c.get("head_dim")->integer(), 4);
  EXPECT_EQ(c.get("vocab_size")->integer(), 6);
  EXPECT_FALSE(c.get("tie_word_embeddings")->boolean());
  EXPECT_TRUE(c.get("bos_token_id")->is_null());
  EXPECT_EQ(c.get("pad_token_id")->integer(), 5);
  EXPECT_EQ(c.get("torch_dtype")->string(), "bfloat16");  // one matrix is not float32
  EXPECT_EQ(c.get("dtype")->string(), "bfloat16");
  const auto t = tensors_of(folder / "out");
  EXPECT_EQ(t.at("lm_head.weight").dtype, DType::kBF16);
  EXPECT_EQ(t.at("model.norm.weight").dtype, DType::kBF16);
  EXPECT_EQ(read_json(folder / "out" / "generation_config.json").get("eos_token_id")->dump(),
            "[0]");
}

Json scaling_of(const std::function<void(GgufBytes&)>& extra) {
  const ScratchFolder folder;
  Tiny tiny;
  tiny.extra = extra;
  convert_gguf(folder.write("a.gguf", tiny.build()), folder / "out");
  const Json c = read_json(folder / "out" / "config.json");
  if (!c.get("rope_scaling")->is_null()) {
    EXPECT_EQ(c.get("rope_parameters")->get("factor")->number(),
              c.get("rope_scaling")->get("factor")->number());
  }
  return *c.get("rope_scaling");
}

TEST(GgufConvert, RopeScaling) {
  const Json s = scaling_of([](GgufBytes& g) {
    g.real("llama.rope.freq_base", 500000.0f);
    g.floats("rope_freqs.weight", {2}, divisors(500000, 32, 16));
  });
  EXPECT_EQ(s.get("rope_type")->string(), "llama3");
  EXPECT_EQ(s.get("factor")->number(), 32.0);
  EXPECT_EQ(s.get("original_max_position_embeddings")->integer(), 16);
  EXPECT_TRUE(scaling_of([](GgufBytes& g) {
                g.floats("rope_freqs.weight", {2}, {1, 1});
              }).is_null());
  EXPECT_EQ(scaling_of([](GgufBytes& g) {
              g.string("llama.rope.scaling.type", "linear").real("llama.rope.scaling.factor", 8);
            }).dump(),
            R"({"rope_type": "linear", "factor": 8.0})");
  EXPECT_TRUE(
      scaling_of([](GgufBytes& g) { g.string("llama.rope.scaling.type", "none"); }).is_null());
}

TEST(GgufConvert, RopeScalingOfPublishedModels) {
  const ScratchFolder folder;
  for (const auto& [head_dim, factor, length] :
       {std::tuple(128, 8.0, 8192), std::tuple(64, 32.0, 8192), std::tuple(128, 4.0, 4096)}) {
    GgufBytes g;
    g.floats("rope_freqs.weight", {static_cast<uint64_t>(head_dim / 2)},
             divisors(500000, factor, length, 1, static_cast<size_t>(head_dim / 2)));
    const GgufFile file(folder.write("a.gguf", g.build()));
    GgufSizes sizes{};
    sizes.head_dim = head_dim;
    const Json s = read_rope_scaling(file, "llama", sizes, 500000);
    EXPECT_EQ(s.get("factor")->number(), factor);
    EXPECT_EQ(s.get("low_freq_factor")->number(), 1.0);
    EXPECT_EQ(s.get("high_freq_factor")->number(), 4.0);
    EXPECT_EQ(s.get("original_max_position_embeddings")->integer(), length);
  }
}

/// A vocabulary as SentencePiece makes it, for Gemma.
void add_spm(GgufBytes& g) {
  g.string("tokenizer.ggml.model", "llama").string("tokenizer.ggml.pre", "default");
  g.strings("tokenizer.ggml.tokens", {"<unk>", "<bos>", "<0x41>", "  ", "\xe2\x96\x81", "x"});
  g.numbers<float>("tokenizer.ggml.scores", 6, {0, 0, 0, -1000, -1, -2});
  g.numbers<int32_t>("tokenizer.ggml.token_type", 5, {3, 3, 6, 4, 1, 1});
  g.integer("tokenizer.ggml.bos_token_id", 1).integer("tokenizer.ggml.unknown_token_id", 0);
}

TEST(GgufConvert, Gemma3) {
  const ScratchFolder folder;
  Tiny tiny;
  tiny.architecture = "gemma3";
  tiny.layers = 7;
  tiny.extra = [](GgufBytes& g) {
    g.integer("gemma3.attention.key_length", 4).integer("gemma3.attention.sliding_window", 16);
    g.string("gemma3.rope.scaling.type", "linear").real("gemma3.rope.scaling.factor", 8);
    add_spm(g);
  };
  convert_gguf(folder.write("a.gguf", tiny.build()), folder / "out");
  const auto t = tensors_of(folder / "out");
  EXPECT_EQ(t.size(), 2u + 7 * 13);
  EXPECT_EQ(floats_of(t.at("model.layers.6.self_attn.q_norm.weight")), ramp(4, 0));
  EXPECT_EQ(floats_of(t.at("model.layers.0.pre_feedforward_layernorm.weight")), ramp(8, 0));
  EXPECT_EQ(floats_of(t.at("model.norm.weight")), ramp(8, 0));
  EXPECT_EQ(floats_of(t.at("model.layers.0.self_attn.q_proj.weight")), ramp(64, 0));
  const Json c = read_json(folder / "out" / "config.json");
  EXPECT_EQ(c.get("model_type")->string(), "gemma3_text");
  EXPECT_EQ(c.get("rope_theta")->number(), 1e6);
  EXPECT_EQ(c.get("rope_local_base_freq")->number(), 1e4);
  EXPECT_EQ(c.get("rope_scaling")->dump(), R"({"rope_type": "linear", "factor": 8.0})");
  EXPECT_EQ(c.get("rope_parameters")->get("sliding_attention")->dump(),
            R"({"rope_type": "default", "rope_theta": 10000.0})");
  EXPECT_EQ(c.get("layer_types")->array()[5].string(), "full_attention");
  EXPECT_EQ(c.get("layer_types")->array()[6].string(), "sliding_attention");
  EXPECT_EQ(c.get("query_pre_attn_scalar")->integer(), 4);
  EXPECT_TRUE(c.get("tie_word_embeddings")->boolean());

  const Json tokenizer = read_json(folder / "out" / "tokenizer.json");
  const Json& model = *tokenizer.get("model");
  EXPECT_TRUE(model.get("byte_fallback")->boolean());
  EXPECT_EQ(model.get("unk_token")->string(), "<unk>");
  EXPECT_EQ(model.get("vocab")->get("\xe2\x96\x81\xe2\x96\x81")->integer(), 3);
  EXPECT_EQ(model.get("merges")->dump(), "[[\"\xe2\x96\x81\", \"\xe2\x96\x81\"]]");
  EXPECT_EQ(tokenizer.get("added_tokens")->array().size(), 2u);
  EXPECT_EQ(tokenizer.get("post_processor")->get("type")->string(), "TemplateProcessing");
  EXPECT_TRUE(fs::exists(folder / "out/tokenizer.model"));
}

TEST(GgufConvert, BpeTokenizerFiles) {
  const ScratchFolder folder;
  Tiny tiny;
  tiny.extra = [](GgufBytes& g) { g.string("tokenizer.chat_template", "{{ 'hi' }}"); };
  convert_gguf(folder.write("a.gguf", tiny.build()), folder / "out");
  const Json t = read_json(folder / "out" / "tokenizer.json");
  EXPECT_EQ(t.get("model")->get("merges")->dump(), R"([["a", "b"]])");
  EXPECT_EQ(t.get("pre_tokenizer")->get("pretokenizers")->array()[0].dump(),
            R"({"type": "Digits", "individual_digits": true})");
  EXPECT_TRUE(t.get("post_processor")->is_null());
  const auto& added = t.get("added_tokens")->array();
  ASSERT_EQ(added.size(), 2u);
  EXPECT_TRUE(added[0].get("special")->boolean());
  EXPECT_EQ(added[1].get("content")->string(), "<tool>");
  EXPECT_FALSE(added[1].get("special")->boolean());
  const Json c = read_json(folder / "out" / "tokenizer_config.json");
  EXPECT_EQ(c.get("chat_template")->string(), "{{ 'hi' }}");
  EXPECT_EQ(c.get("eos_token")->string(), "<|im_end|>");
  EXPECT_EQ(c.get("model_max_length")->integer(), 64);
  EXPECT_EQ(c.get("added_tokens_decoder")->get("5")->get("content")->string(), "<tool>");
  EXPECT_FALSE(fs::exists(folder / "out/tokenizer.model"));
}

TEST(GgufConvert, EveryKnownPreTokenizer) {
  for (const char* pre : {"smollm", "gpt-2", "llama-bpe", "llama3", "llama-v3", "qwen2"}) {
    const ScratchFolder folder;
    Tiny tiny;
    tiny.pre = pre;
    tiny.extra = [](GgufBytes& g) { g.integer("tokenizer.ggml.bos_token_id", 0); };
    convert_gguf(folder.write("a.gguf", tiny.build()), folder / "out");
    const Json t = read_json(folder / "out" / "tokenizer.json");
    const bool llama3 = std::string(pre).starts_with("llama");
    EXPECT_EQ(t.get("model")->get("ignore_merges")->boolean(), llama3) << pre;
    EXPECT_EQ(t.get("post_processor")->is_null(), !llama3) << pre;
    EXPECT_EQ(t.get("normalizer")->is_null(), std::string(pre) != "qwen2") << pre;
  }
}

TEST(GgufConvert, KeepsWhatIsInTheWay) {
  const ScratchFolder folder;
  Tiny tiny;
  const auto file = folder.write("a.gguf", tiny.build());
  fs::create_directory(folder / "out");
  folder.write("out/mine.txt", "mine");
  folder.write("plain", "mine");
  for (const char* target : {"out", "plain"}) {
    try {
      convert_gguf(file, folder / target);
      ADD_FAILURE() << target;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kOutput);
      EXPECT_TRUE(std::string(e.what()).starts_with((folder / target).string())) << e.what();
    }
  }
  EXPECT_TRUE(fs::exists(folder / "out/mine.txt"));
  fs::remove(folder / "out/mine.txt");
  EXPECT_NO_THROW(convert_gguf(file, folder / "out"));  // an empty folder may be taken
  EXPECT_THROW(convert_gguf(folder / "absent.gguf", folder / "new"), Error);
}

}  // namespace
}  // namespace ft
