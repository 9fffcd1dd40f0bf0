// parity/E_nf4: models in bitsandbytes' four bits, as they are stored and packed while loading.
#include "adapters/adapters.h"
#include "fixtures.h"
#include "kernels/autograd.h"
#include "kernels/compare.h"
#include "objectives/sft.h"

namespace ft {
namespace {

class QuantizedModel : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    folder_ = parity_case("E_nf4", GetParam());
    FT_NEEDS(folder_);
    info_ = read_json(folder_ / "case.json");
    expected_ = read_tensors(folder_ / "expected.safetensors");
  }
  std::unique_ptr<Model> load() const {
    return load_model(folder_ / "model", at::kFloat, at::kCPU);
  }
  double logits_error(const Model& model, const char* wanted) const {
    at::NoGradGuard guard;
    const Batch batch = single_document(to_ids(expected_.at("input_ids")));
    const Decoder& decoder = model.decoder;
    const Tensor hidden = decoder.forward(make_sequence(decoder.spec, batch, at::kCPU));
    return max_abs(decoder.logits(hidden), expected_.at(wanted));
  }

  fs::path folder_;
  Json info_;
  TensorMap expected_;
};

TEST_P(QuantizedModel, LogitsAndLoss) {
  const auto model = load();
  ASSERT_TRUE(model->quantization);
  EXPECT_LE(logits_error(*model, "logits"), tolerance(info_, "logits_max_abs"));
  const Batch batch = single_document(to_ids(expected_.at("input_ids")));
  at::NoGradGuard guard;
  EXPECT_NEAR(value(sft_loss(*model, batch)) / static_cast<double>(batch.num_targets()),
              value(expected_.at("loss")), tolerance(info_, "loss_abs"));
}

TEST_P(QuantizedModel, LogitsWithAdapter) {
  const auto model = load();
  load_adapter(*model, folder_ / "adapter");
  EXPECT_LE(logits_error(*model, "logits_with_adapter"), tolerance(info_, "logits_max_abs"));
}

TEST_P(QuantizedModel, Gradients) {
  for (const Recompute recompute : {Recompute::kNothing, Recompute::kGateUp, Recompute::kBlocks}) {
    const auto model = load();
    load_adapter(*model, folder_ / "adapter");
    model->decoder.recompute = recompute;
    const Batch batch = packed_rows(expected_.at("batch.input_ids"), expected_.at("batch.labels"),
                                    *info_.get("doc_bounds"));
    const Tensor loss = sft_loss(*model, batch).div(static_cast<double>(batch.num_targets()));
    EXPECT_NEAR(value(loss), value(expected_.at("batch.loss")), tolerance(info_, "loss_abs"));
    run_backward(loss);
    expect_gradients(*model, expected_, tolerance(info_, "grad_rel_l2_per_tensor"));
  }
}

/// DoRA on the 4-bit base as on the matrices that it stands for, which parity/C and F check.
TEST_P(QuantizedModel, DoraGradients) {
  const auto with_dora = [&](bool dense) {
    auto model = load();
    for (Param& p : model->params.all())
      if (dense && p.quantized) {
        p.value = dequantize(*p.quantized, at::kFloat);
        p.quantized = nullptr;
      }
    if (dense) model->quantization.reset();
    LoraConfig config = read_adapter_config(folder_ / "adapter");
    config.use_dora = true;
    const AdapterSet set = attach_adapter(*model, config, 3);
    at::NoGradGuard guard;
    for (size_t i = 0; i < set.params.size(); ++i)
      if (set.params[i]->name.ends_with(".lora_B.weight"))
        set.params[i]->value.copy_(normal(set.params[i]->value.sizes(), i).mul(0.1));
    return model;
  };
  const Batch batch = packed_rows(expected_.at("batch.input_ids"), expected_.at("batch.labels"),
                                  *info_.get("doc_bounds"));
  const auto packed = with_dora(false), dense = with_dora(true);
  const Tensor loss = sft_loss(*packed, batch), wanted = sft_loss(*dense, batch);
  EXPECT_NEAR(value(loss), value(wanted), 1e-5 * value(wanted));
  run_backward(loss);
  run_backward(wanted);
  size_t magnitudes = 0;
  for (const Param* p : packed->params.trainable()) {
    const Tensor grad = p->value.grad(), exact = dense->params.at(p->name).value.grad();
    ASSERT_TRUE(grad.defined() && exact.defined()) << p->name;
    EXPECT_GT(exact.abs().max().item().toDouble(), 0) << p->name;
    EXPECT_LE(relative_l2(grad, exact), 1e-5) << p->name;
    magnitudes += p->name.ends_with("lora_magnitude_vector");
  }
  EXPECT_GT(magnitudes, 0U);
}

/// Packing the 16-bit checkpoint while it is loaded gives the stored model's bytes.
TEST_P(QuantizedModel, PackedWhileLoadingIsWhatIsStored) {
  const auto stored = load();
  const QuantizationConfig how{"nf4", info_.get("double_quant")->boolean(), 64};
  const auto packed = load_model(folder_ / "model_unquantised",
                                 parse_dtype(info_.get("stored_dtype")->string()), at::kCPU, &how);
  size_t compared = 0;
  for (const Param& p : packed->params.all()) {
    const Param& other = stored->params.at(p.name);
    ASSERT_EQ(p.quantized != nullptr, other.quantized != nullptr) << p.name;
    if (!p.quantized) continue;
    ++compared;
    EXPECT_TRUE(p.quantized->codes.equal(other.quantized->codes)) << p.name;
    EXPECT_TRUE(p.quantized->absmax.equal(other.quantized->absmax)) << p.name;
    EXPECT_EQ(p.quantized->nested_offset, other.quantized->nested_offset) << p.name;
    EXPECT_EQ(p.quantized->stored, other.quantized->stored) << p.name;
  }
  EXPECT_EQ(compared, static_cast<size_t>(info_.get("quantised_modules")->integer()));
}

INSTANTIATE_TEST_SUITE_P(Cases, QuantizedModel,
                         testing::Values("llama_bnb4_bf16_double", "llama_bnb4_fp32"), case_name);

}  // namespace
}  // namespace ft
