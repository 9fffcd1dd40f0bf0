// The ledger against what can be counted by hand, on the tiny model.
#include <cmath>

#include "base/json.h"
#include "finetune/run.h"
#include "fixtures.h"
#include "model/load.h"

namespace ft {
namespace {

Json ledger_of(const std::string& method, const std::string& recompute,
               const std::string& base_dtype = "auto") {
  LedgerOptions options;
  options.config.model = tiny_model().string();
  options.config.method = method;
  options.config.data.max_length = 64;
  options.config.train.gradient_checkpointing = recompute;
  options.config.lora.base_dtype = base_dtype;
  options.document = 16;
  options.json = true;
  return parse_json(ledger(options), "ledger");
}

double number(const Json& json, const char* key) {
  return json.get(key)->number();
}

/// Sum over the kernels of a phase, those of one name where it is given.
double sum(const Json& ledger_json, const char* what, const std::string& phase,
           const std::string& name = "") {
  double total = 0;
  for (const Json& k : ledger_json.get("kernels")->array())
    if (k.get("phase")->string() == phase && (name.empty() || k.get("kernel")->string() == name))
      total += number(k, what);
  return total;
}

TEST(Ledger, CountsTheProductsOfTheProgram) {
  const ModelSpec s = load_spec(tiny_model());
  const double N = 64, targets = 60, r = 16;
  const auto q = static_cast<double>(s.num_heads * s.head_dim),
             kv = static_cast<double>(s.num_kv_heads * s.head_dim),
             C = static_cast<double>(s.hidden_size), F = static_cast<double>(s.intermediate_size),
             L = static_cast<double>(s.num_layers), V = static_cast<double>(s.vocab_size);
  // A product of a group is as long as its input and all its ranks; x A^T is one besides.
  const auto group = [](double rows, double in, double out, double ranks) {
    return 2 * rows * (out * (in + ranks) + ranks * in);
  };
  const double attention = group(N, C, q + 2 * kv, 3 * r) + group(N, q, C, r);
  const auto mlp = [&](double rows) { return group(rows, C, 2 * F, 2 * r) + group(rows, F, C, r); };
  // The last MLP is run for the rows with a target only.
  const double blocks = L * attention + (L - 1) * mlp(N) + mlp(targets);
  const Json lora = ledger_of("lora", "false");
  // The loss makes the gradient of the hidden states at once.
  EXPECT_DOUBLE_EQ(sum(lora, "flops", "forward", "mm"), blocks + 2 * (2 * targets * C * V));
  EXPECT_EQ(sum(lora, "launches", "forward", "flash_attention"), L);
  EXPECT_EQ(sum(lora, "launches", "update", "adamw"), std::ceil(14 * L / 32));  // 32 tensors each
  // A and B in float32: weight and two moments read and written, the gradient read.
  const double adapter = L * r * (C + q + 2 * (C + kv) + q + C + 2 * (C + F) + F + C);
  EXPECT_EQ(sum(lora, "bytes", "update", "adamw"), 7 * 4 * adapter);
  // Attention: four documents of 16 tokens.
  EXPECT_DOUBLE_EQ(sum(lora, "flops", "forward", "flash_attention"), L * 4 * q * 4 * (16 * 17 / 2));
  EXPECT_LE(number(lora, "launches_per_layer_forward"), 20);
  EXPECT_LE(number(lora, "launches_per_layer_backward"), 45);
}

TEST(Ledger, SeesWhatIsComputedAgain) {
  const double kept = sum(ledger_of("lora", "false"), "flops", "backward"),
               selective = sum(ledger_of("lora", "selective"), "flops", "backward"),
               blocks = sum(ledger_of("lora", "true"), "flops", "backward");
  EXPECT_GT(selective, kept);
  EXPECT_GT(blocks, selective);
}

TEST(Ledger, KnowsTheMethods) {
  const Json lora = ledger_of("lora", "false"), qlora = ledger_of("qlora", "false"),
             full = ledger_of("full", "false");
  EXPECT_EQ(sum(qlora, "launches", "forward", "dequantize"),
            7 * static_cast<double>(load_spec(tiny_model()).num_layers));
  EXPECT_EQ(sum(lora, "launches", "forward", "dequantize"), 0);
  const Json float8 = ledger_of("lora", "false", "float8");
  const double groups = 4 * static_cast<double>(load_spec(tiny_model()).num_layers);
  EXPECT_EQ(sum(float8, "launches", "forward", "scaled_mm"), groups);
  // Of q, k, v, of o, of gate and up; the gated product rounds down's input itself.
  EXPECT_EQ(sum(float8, "launches", "forward", "to_float8"), groups * 3 / 4);
  EXPECT_EQ(sum(float8, "launches", "backward", "scaled_mm"), groups - 1);  // no dX below the first
  EXPECT_EQ(number(float8, "model_flops"), number(lora, "model_flops"));
  EXPECT_GT(number(full, "model_flops"), 1.4 * number(lora, "model_flops"));
  EXPECT_GT(number(full, "seconds"), number(lora, "seconds"));
}

}  // namespace
}  // namespace ft
