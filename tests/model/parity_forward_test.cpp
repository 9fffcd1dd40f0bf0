// parity/A_forward and B_packing: logits, losses and hidden states of transformers.
#include "fixtures.h"
#include "objectives/sft.h"

namespace ft {
namespace {

class ForwardParity : public testing::TestWithParam<std::string> {};

TEST_P(ForwardParity, LogitsLossHidden) {
  const fs::path folder = parity_case("A_forward", GetParam());
  FT_NEEDS(folder);
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto model = load_model(folder / "model", at::kFloat, at::kCPU);
  at::NoGradGuard guard;
  for (const char* i : {"0", "1"}) {
    const auto at_i = [&](const char* name) { return expected.at(std::string(name) + "_" + i); };
    const Batch batch = single_document(to_ids(at_i("input_ids")));
    const Sequence sequence = make_sequence(model->decoder.spec, batch, at::kCPU);
    const Tensor embedded = model->decoder.embed_tokens(sequence.tokens);
    EXPECT_LE(max_abs(run_block(model->decoder.blocks[0], 0, {embedded}, sequence,
                                model->decoder.spec, {.closed = true})
                          .x,
                      at_i("hidden_layer0")),
              tolerance(info, "hidden_max_abs"));
    const Tensor hidden = model->decoder.forward(sequence);
    EXPECT_LE(max_abs(hidden, at_i("hidden_norm")), tolerance(info, "hidden_max_abs"));
    const Tensor logits = model->decoder.logits(hidden), wanted = at_i("logits");
    EXPECT_LE(figure("logits_max_abs", max_abs(logits, wanted)), tolerance(info, "logits_max_abs"));
    EXPECT_EQ(figure("other_best_token", value(logits.argmax(-1).ne(wanted.argmax(-1)).sum())), 0);
    const double loss = value(sft_loss(*model, batch)) / static_cast<double>(batch.num_targets());
    EXPECT_NEAR(loss, value(at_i("loss")), tolerance(info, "loss_abs"));
  }
}

/// The same weights rounded to bfloat16: what transformers computes in float32 is the truth.
TEST_P(ForwardParity, LogitsInBfloat16) {
  const fs::path folder = parity_case("A_forward", GetParam());
  FT_NEEDS(folder);
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto model = load_model(folder / "model", at::kBFloat16, at::kCPU);
  at::NoGradGuard guard;
  for (const char* i : {"0", "1"}) {
    const Batch batch = single_document(to_ids(expected.at(std::string("input_ids_") + i)));
    const Tensor wanted = expected.at(std::string("logits_") + i);
    const Tensor logits = model->decoder.logits(
        model->decoder.forward(make_sequence(model->decoder.spec, batch, at::kCPU)));
    EXPECT_LE(relative_l2(logits, wanted), 0.05);
    figure("bfloat16_mean_abs", value(on_host(logits).sub(on_host(wanted)).abs().mean()));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ForwardParity,
                         testing::ValuesIn(parity_cases(
                             "A_forward",
                             {"gemma3_mm", "gemma3_mm_newkeys", "gemma3_mm_oldkeys", "gemma3_text",
                              "gemma3_text_oldcfg", "llama2_mha", "llama2_oldcfg", "llama31_gqa",
                              "llama31_gqa_oldcfg", "llama31_sharded"})),
                         case_name);

class PackingParity : public testing::TestWithParam<std::string> {};

TEST_P(PackingParity, PackedDocumentsLoseWhatTheyLoseAlone) {
  const fs::path folder = parity_case("B_packing", GetParam());
  FT_NEEDS(folder);
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto model = load_model(folder / "model", at::kFloat, at::kCPU);
  const Json& bounds = *info.get("doc_bounds");
  const Batch batch = packed_rows(expected.at("input_ids"), expected.at("labels"), bounds);
  const Tensor losses = sft_token_losses(*model, batch);  // [N], at the place before each target
  int64_t offset = 0;
  for (const Json& b : bounds.array()) {
    const int64_t row = b.array()[0].integer(), begin = b.array()[1].integer(),
                  T = b.array()[2].integer() - begin;
    const Tensor wanted = expected.at("token_losses")[row].narrow(0, begin + 1, T - 1);
    EXPECT_LE(max_abs(losses.narrow(0, offset, T - 1), wanted), tolerance(info, "token_loss_abs"));
    offset += T;
  }
  EXPECT_NEAR(value(losses.sum()) / static_cast<double>(batch.num_targets()),
              value(expected.at("mean_loss")), tolerance(info, "mean_abs"));
}

INSTANTIATE_TEST_SUITE_P(Cases, PackingParity,
                         testing::ValuesIn(parity_cases("B_packing",
                                                        {"gemma3_window", "llama31", "llama_gqa"})),
                         case_name);

}  // namespace
}  // namespace ft
