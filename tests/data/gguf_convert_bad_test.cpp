// GGUF files that read well but make no model: each gives one line that names the place, and leaves
// nothing behind.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/seed.h"
#include "data/gguf_convert.h"
#include "gguf_tiny.h"

namespace ft {
namespace {

struct BadModel {
  const char* expected;  ///< part of the message
  std::function<void(Tiny&)> make;
};

BadModel without(const char* name, const char* expected) {
  return {expected, [name](Tiny& t) { t.without.insert(name); }};
}
BadModel with(const char* expected, std::function<void(GgufBytes&)> extra) {
  return {expected, [extra](Tiny& t) { t.extra = extra; }};
}
BadModel instead(const char* name, const char* expected, std::function<void(GgufBytes&)> extra) {
  return {expected, [name, extra](Tiny& t) {
            t.without.insert(name);
            t.extra = extra;
          }};
}

std::vector<BadModel> bad_models() {
  return {
      {"supported are llama, gemma3", [](Tiny& t) { t.architecture = "mamba"; }},
      without("general.architecture", "general.architecture: the key is missing"),
      without("llama.block_count", "llama.block_count"),
      without("llama.eps", "layer_norm_rms_epsilon"),
      without("token_embd.weight", "token_embd.weight"),
      without("output_norm.weight", "output_norm.weight: the tensor is missing"),
      without("blk.0.attn_k.weight", "blk.0.attn_k.weight: the tensor is missing"),
      {"blk.1.attn_norm.weight: the tensor is missing",
       [](Tiny& t) {
         t.without.insert("llama.block_count");
         t.extra = [](GgufBytes& g) { g.integer("llama.block_count", 0x7fffffff); };
       }},
      with("no such tensor", [](GgufBytes& g) { g.floats("blk.0.attn_q.bias", {8}, ramp(8, 0)); }),
      instead("blk.0.attn_v.weight", "its shape is [8, 4], [4, 8] is wanted",
              [](GgufBytes& g) {
                g.floats("blk.0.attn_v.weight", {4, 8}, ramp(32, 0));
              }),
      instead("llama.embedding_length", "no sensible size",
              [](GgufBytes& g) { g.integer("llama.embedding_length", 0); }),
      instead("llama.attention.head_count", "one integer is wanted",
              [](GgufBytes& g) {
                g.numbers<uint32_t>("llama.attention.head_count", 4, {2, 2});
              }),
      instead("llama.attention.head_count_kv", "cannot be shared",
              [](GgufBytes& g) { g.integer("llama.attention.head_count_kv", 3); }),
      with("differs from the head size",
           [](GgufBytes& g) { g.integer("llama.rope.dimension_count", 2); }),
      with("mixtures of experts", [](GgufBytes& g) { g.integer("llama.expert_count", 8); }),
      with("\"yarn\" is not supported",
           [](GgufBytes& g) { g.string("llama.rope.scaling.type", "yarn"); }),
      with("rope_freqs.weight: frequency divisors",
           [](GgufBytes& g) { g.floats("rope_freqs.weight", {2}, divisors(10000, 8, 16, 1.5f)); }),
      with("rope_freqs.weight: 2 float32 values",
           [](GgufBytes& g) {
             g.floats("rope_freqs.weight", {4}, {1, 1, 1, 1});
           }),
      with("freq_base", [](GgufBytes& g) { g.real("llama.rope.freq_base", NAN); }),
      without("model", "tokenizer.ggml.model: missing"),
      without("pre", "known are smollm"),
      {"\"deepseek-llm\" is not a known way", [](Tiny& t) { t.pre = "deepseek-llm"; }},
      without("tokens", "vocabulary is missing"),
      without("merges", "tokenizer.ggml.merges"),
      instead("tokens", "only 6 rows",
              [](GgufBytes& g) {
                g.strings("tokenizer.ggml.tokens", {"a", "b", "ab", "d", "e", "f", "g"});
              }),
      instead("tokens", "appears twice",
              [](GgufBytes& g) {
                g.strings("tokenizer.ggml.tokens", {"a", "b", "ab", "1", "2", "a"});
              }),
      instead("tokens", "entry 1 is empty",
              [](GgufBytes& g) {
                g.strings("tokenizer.ggml.tokens", {"a", "", "b", "ab", "1", "2"});
              }),
      instead("types", "3 entries for 6 tokens",
              [](GgufBytes& g) {
                g.numbers<int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1});
              }),
      instead("types", "no type of token",
              [](GgufBytes& g) {
                g.numbers<int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 1, 1, 99});
              }),
      instead("merges", "no pair of tokens",
              [](GgufBytes& g) { g.strings("tokenizer.ggml.merges", {"b a"}); }),
      instead("merges", "no pair of tokens",
              [](GgufBytes& g) { g.strings("tokenizer.ggml.merges", {""}); }),
      with("not in the vocabulary",
           [](GgufBytes& g) { g.integer("tokenizer.ggml.bos_token_id", 6); }),
      with("bos_token_id: missing",
           [](GgufBytes& g) { g.boolean("tokenizer.ggml.add_bos_token", true); }),
  };
}

TEST(GgufConvertBad, BadModelsGiveOneLineAndNoFolder) {
  for (const BadModel& bad : bad_models()) {
    const ScratchFolder folder;
    Tiny tiny;
    bad.make(tiny);
    const auto file = folder.write("bad.gguf", tiny.build());
    try {
      convert_gguf(file, folder / "out");
      ADD_FAILURE() << "accepted: " << bad.expected;
    } catch (const Error& e) {
      const std::string text = e.what();
      EXPECT_EQ(e.code(), Code::kInput) << text;
      EXPECT_TRUE(text.starts_with(file.string() + ": ")) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
      EXPECT_NE(text.find(bad.expected), std::string::npos) << bad.expected << " / " << text;
    }
    EXPECT_FALSE(fs::exists(folder / "out"));
    EXPECT_FALSE(fs::exists(folder / ".out.staging"));
  }
}

TEST(GgufConvertBad, ScoresMustBeNumbers) {
  const ScratchFolder folder;
  Tiny tiny;
  tiny.architecture = "gemma3";
  tiny.extra = [](GgufBytes& g) {
    g.integer("gemma3.attention.sliding_window", 16);
    g.string("tokenizer.ggml.model", "llama");
    g.strings("tokenizer.ggml.tokens", {"a", "b"});
    g.numbers<float>("tokenizer.ggml.scores", 6, {0, NAN});
    g.boolean("tokenizer.ggml.add_bos_token", false);
  };
  EXPECT_THROW(convert_gguf(folder.write("a.gguf", tiny.build()), folder / "out"), Error);
}

TEST(GgufConvertBad, SurvivesFlippedBytes) {
  const ScratchFolder folder;
  Tiny tiny;
  const std::string good = tiny.build();
  Rng rng(11);
  for (int i = 0; i < 150; ++i) {
    std::string bytes = good;
    bytes[rng.below(bytes.size() / 2)] = static_cast<char>(rng.below(256));
    fs::remove_all(folder / "out");
    try {
      convert_gguf(folder.write("fuzz.gguf", bytes), folder / "out");
      EXPECT_TRUE(fs::exists(folder / "out/config.json"));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInput) << e.what();
      EXPECT_FALSE(fs::exists(folder / "out"));
    }
  }
}

}  // namespace
}  // namespace ft
