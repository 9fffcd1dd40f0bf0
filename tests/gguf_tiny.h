// Tiny llama and gemma3 models as GGUF files, whole or with something wrong.
#pragma once

#include <cmath>
#include <functional>
#include <numbers>
#include <set>
#include <string>
#include <vector>

#include "gguf_bytes.h"

namespace ft {

// Sizes of both tiny models: hidden 8, 2 query heads, 1 key/value head, head size 4, inner 6.
inline std::vector<float> ramp(size_t n, float start) {
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = start + static_cast<float>(i);
  return v;
}

/// A file in the making, from which a test leaves out or to which it adds.
struct Tiny {
  std::set<std::string> without;  ///< names of tensors and keys
  std::function<void(GgufBytes&)> extra = [](GgufBytes&) {};
  std::string architecture = "llama";
  std::string pre = "smollm";
  int layers = 1;
  GgufBytes g;

  void integer(const std::string& key, uint32_t v) {
    if (!without.contains(key)) g.integer(key, v);
  }
  void matrix(const std::string& name, uint64_t rows, uint64_t cols) {
    if (!without.contains(name)) g.floats(name, {cols, rows}, ramp(rows * cols, 0));
  }
  void vector(const std::string& name, uint64_t size) {
    if (!without.contains(name)) g.floats(name, {size}, ramp(size, 1));
  }

  void sizes() {
    const std::string a = architecture + ".";
    if (!without.contains("general.architecture")) g.string("general.architecture", architecture);
    integer(a + "embedding_length", 8);
    integer(a + "feed_forward_length", 6);
    integer(a + "block_count", static_cast<uint32_t>(layers));
    integer(a + "attention.head_count", 2);
    integer(a + "attention.head_count_kv", 1);
    integer(a + "context_length", 64);
    if (!without.contains(a + "eps")) g.real(a + "attention.layer_norm_rms_epsilon", 1e-5f);
  }
  void layer(int n) {
    const std::string b = "blk." + std::to_string(n) + ".";
    const bool gemma = architecture == "gemma3";
    vector(b + "attn_norm.weight", 8), vector(b + "ffn_norm.weight", 8);
    matrix(b + "attn_q.weight", 8, 8), matrix(b + "attn_k.weight", 4, 8);
    matrix(b + "attn_v.weight", 4, 8), matrix(b + "attn_output.weight", 8, 8);
    matrix(b + "ffn_gate.weight", 6, 8), matrix(b + "ffn_up.weight", 6, 8);
    matrix(b + "ffn_down.weight", 8, 6);
    if (!gemma) return;
    vector(b + "attn_q_norm.weight", 4), vector(b + "attn_k_norm.weight", 4);
    vector(b + "post_attention_norm.weight", 8), vector(b + "post_ffw_norm.weight", 8);
  }
  void bpe() {
    const auto put = [&](const std::string& key, const std::function<void()>& write) {
      if (!without.contains(key)) write();
    };
    put("model", [&] { g.string("tokenizer.ggml.model", "gpt2"); });
    put("pre", [&] { g.string("tokenizer.ggml.pre", pre); });
    put("tokens", [&] {
      g.strings("tokenizer.ggml.tokens", {"<|im_end|>", "a", "b", "ab", "1", "<tool>"});
    });
    put("types", [&] { g.numbers<int32_t>("tokenizer.ggml.token_type", 5, {3, 1, 1, 1, 1, 4}); });
    put("merges", [&] { g.strings("tokenizer.ggml.merges", {"a b"}); });
    put("eos", [&] { g.integer("tokenizer.ggml.eos_token_id", 0); });
  }
  std::string build() {
    sizes();
    if (architecture == "llama") bpe();
    extra(g);
    matrix("token_embd.weight", 6, 8);
    vector("output_norm.weight", 8);
    for (int n = 0; n < layers; ++n) layer(n);
    return g.build();
  }
};

/// The divisors of llama3 scaling for `n` frequencies, with the first one changed.
inline std::vector<float> divisors(double theta, double factor, double length, float change = 1,
                                   size_t n = 2) {
  std::vector<float> out;
  for (size_t i = 0; i < n; ++i) {
    const double exponent = static_cast<double>(i) / static_cast<double>(n);
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, exponent);
    const double smooth = (length / wavelength - 1) / 3;
    out.push_back(wavelength < length / 4 ? 1.0f
                  : wavelength > length   ? static_cast<float>(factor)
                                        : static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
  }
  out[0] *= change;
  return out;
}

}  // namespace ft
