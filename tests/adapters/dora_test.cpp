// DoRA, the starts that change the base, and the merge of several adapters, on single layers and on
// the tiny model.
#include "adapters/dora.h"

#include "adapters/adapters.h"
#include "adapters/start.h"
#include "cli/run_program.h"
#include "fixtures.h"
#include "kernels/autograd.h"
#include "kernels/compare.h"

namespace ft {
namespace {

constexpr int64_t kIn = 128, kOut = 48, kRank = 4, kTokens = 9;

Tensor numbers_of(at::IntArrayRef sizes, uint64_t seed, double size = 1) {
  return normal(sizes, seed).mul(size).to(at::kFloat);
}

/// A layer with a DoRA adapter, dense or in four bits.
struct DoraLayer {
  ParamStore store;
  Linear linear;
  std::shared_ptr<AdapterState> state = std::make_shared<AdapterState>();
  Param *a = nullptr, *b = nullptr, *magnitude = nullptr;

  explicit DoraLayer(Param& weight) {
    linear = {"layer", &weight, nullptr, nullptr};
    a = &store.add("a", numbers_of({kRank, kIn}, 2));
    b = &store.add("b", numbers_of({kOut, kRank}, 3, 0.1));
    const LoraAdapter lora(*a, *b, 0.5, state, 1);
    magnitude = &store.add("m", initial_magnitude(linear, lora).add(numbers_of({kOut}, 4, 0.2)));
    for (Param* p : {a, b, magnitude}) p->train();
    linear.adapter = std::make_shared<DoraAdapter>(lora, *magnitude, linear);
  }
  /// Output and gradients of x, A, B and the magnitude.
  std::vector<Tensor> run() {
    const Tensor x = numbers_of({kTokens, kIn}, 5).requires_grad_();
    const Tensor y = linear(x);
    run_backward(y, numbers_of({kTokens, kOut}, 6));
    return {y.detach(), x.grad(), a->value.grad(), b->value.grad(), magnitude->value.grad()};
  }
};

TEST(Dora, OnFourBitsIsThatOfTheDequantisedWeight) {
  for (const double dropout : {0.0, 0.25}) {
    const auto packed = std::make_shared<const QuantizedWeight>(
        quantize(numbers_of({kOut, kIn}, 1), "nf4", 64, true));
    ParamStore weights;
    DoraLayer four_bits(weights.add("four", packed)),
        dense(weights.add("dense", dequantize(*packed, at::kFloat)));
    for (DoraLayer* layer : {&four_bits, &dense}) {
      layer->state->dropout = dropout;
      layer->state->dropout_key = 7;
    }
    const auto got = four_bits.run(), wanted = dense.run();
    for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(same_bits(got[i], wanted[i])) << i;
  }
}

TEST(Dora, TheNormFollowsTheWeights) {
  ParamStore weights;
  DoraLayer layer(weights.add("w", numbers_of({kOut, kIn}, 1)));
  at::NoGradGuard guard;
  const Tensor x = numbers_of({kTokens, kIn}, 5);
  const auto expect_is_merged = [&] {
    const Tensor w = layer.linear.weight->value.add(layer.linear.adapter->delta(layer.linear));
    EXPECT_LE(max_abs(layer.linear(x), ops::linear(x, w)), 1e-4);
    EXPECT_LE(max_abs(w.square().sum(1).sqrt(), layer.magnitude->value), 1e-5);
  };
  expect_is_merged();
  layer.b->value.mul_(3);  // an operation of LibTorch
  expect_is_merged();
  // The optimizer's loops write through pointers, of which LibTorch knows nothing.
  static_cast<float*>(layer.b->value.data_ptr())[0] += 2;
  ++layer.state->num_updates;
  expect_is_merged();
}

struct Start {
  const char* init;
  bool dora, rslora;
};
class BaseStart : public testing::TestWithParam<Start> {};

/// Logits for a fixed text.
Tensor logits_of(Model& model) {
  at::NoGradGuard guard;
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back(i * 13 % 256);
  return model.decoder.logits(
      model.decoder.forward(make_sequence(model.decoder.spec, single_document(ids), model.device)));
}

TEST_P(BaseStart, KeepsTheModelAndIsWrittenForTheUntouchedBase) {
  const Start& start = GetParam();
  LoraConfig config;
  config.r = 6;
  config.alpha = 9;
  config.init = start.init;
  config.use_dora = start.dora;
  config.use_rslora = start.rslora;
  config.rank_pattern = {{"q_proj", 3}};
  config.alpha_pattern = {{"down_proj", 4}};
  const auto untouched = load_model(tiny_model(), at::kFloat, at::kCPU),
             model = load_model(tiny_model(), at::kFloat, at::kCPU);
  const AdapterSet set = attach_adapter(*model, config, 1);
  // The base gave away what the adapter has: exact but for rounding, which grows through layers.
  EXPECT_LE(relative_l2(logits_of(*model), logits_of(*untouched)), 1e-4);
  EXPECT_GT(relative_l2(model->params.at("model.layers.0.self_attn.q_proj.weight").value,
                        untouched->params.at("model.layers.0.self_attn.q_proj.weight").value),
            0.05);
  {
    at::NoGradGuard guard;
    uint64_t seed = 100;
    for (Param* p : set.params) p->value.add_(numbers_of(p->value.sizes(), ++seed, 0.02));
  }
  const TestFolder folder;
  save_adapter(*model, set, folder.path());
  const LoraConfig written = read_adapter_config(folder.path());
  EXPECT_EQ(written.r, 12);
  EXPECT_EQ(written.rank_pattern.at("q_proj"), 6);
  EXPECT_EQ(written.init, "default");
  const Tensor base_logits = logits_of(*untouched);
  load_adapter(*untouched, folder.path());
  EXPECT_LE(relative_l2(logits_of(*untouched), logits_of(*model)), 1e-4);
  EXPECT_GT(relative_l2(logits_of(*untouched), base_logits), 1e-2);
}

INSTANTIATE_TEST_SUITE_P(All, BaseStart,
                         testing::Values(Start{"pissa", false, false}, Start{"pissa", true, true},
                                         Start{"olora", false, true}, Start{"olora", true, false}),
                         [](const auto& start) {
                           return std::string(start.param.init) +
                                  (start.param.dora ? "_dora" : "") +
                                  (start.param.rslora ? "_rslora" : "");
                         });

TEST(AdapterStart, PissaTakesTheLargestPart) {
  ParamStore weights;
  Linear linear{"l", &weights.add("w", numbers_of({kOut, kIn}, 1)), nullptr, nullptr};
  const Tensor w = linear.weight->value;
  double last = value(w.norm());
  for (const int64_t rank : {1, 4, 16, 48}) {
    const AdapterStart start = adapter_start("pissa", linear, rank, 0.5, 0);
    const Tensor part = start.b.mm(start.a).mul(0.5);
    // The best approximation of a rank is the projection on its left singular vectors.
    EXPECT_LE(value(w.sub(part).mul(part).sum()), 1e-2);
    const double rest = value(w.sub(part).norm());
    EXPECT_LT(rest, last);
    last = rest;
    EXPECT_TRUE(same_bits(start.a, adapter_start("pissa", linear, rank, 0.5, 0).a));
  }
  EXPECT_LE(last, 1e-3);
}

TEST(AdapterStart, RefusesWhatItCannotDo) {
  ParamStore weights;
  const Linear dense{"l", &weights.add("w", numbers_of({kOut, kIn}, 1)), nullptr, nullptr};
  const Linear packed{"l",
                      &weights.add("q", std::make_shared<const QuantizedWeight>(quantize(
                                            numbers_of({kOut, kIn}, 1), "nf4", 64, false))),
                      nullptr, nullptr};
  for (const char* init : {"pissa", "olora"}) {
    EXPECT_THROW(adapter_start(init, dense, kOut + 1, 1, 0), Error);
    EXPECT_THROW(adapter_start(init, packed, 2, 1, 0), Error);
  }
  EXPECT_EQ(adapter_start("default", packed, 2, 1, 0).a.size(1), kIn);
}

TEST(Merge, AddsWeightedChanges) {
  const auto model = load_model(tiny_model(), std::nullopt, at::kCPU);
  ParamStore stores[2];
  LoraConfig lora, dora;
  lora.r = 2;
  lora.modules_to_save = {"lm_head"};
  dora.r = 3;
  dora.use_dora = true;
  dora.target_modules = {"q_proj"};
  dora.target_is_list = true;
  std::vector<AdapterSet> sets;
  uint64_t seed = 10;
  for (const LoraConfig* config : {&lora, &dora}) {
    sets.push_back(attach_adapter(*model, *config, 1, &stores[sets.size()]));
    take_off(sets.back());
    at::NoGradGuard guard;
    for (Param* p : sets.back().params) p->value.add_(numbers_of(p->value.sizes(), ++seed, 0.1));
  }
  const auto merged = [&](const std::vector<WeightedAdapter>& adapters) {
    TensorMap all;
    for (const auto& [name, tensor] : merge_weights(*model, adapters).tensors) all[name] = tensor;
    return all;
  };
  const TensorMap base = merged({}), first = merged({{&sets[0]}}), second = merged({{&sets[1]}}),
                  both = merged({{&sets[0], 0.5}, {&sets[1], 2}});
  size_t changed = 0;
  for (const auto& [name, w] : base) {
    const Tensor wanted = w.add(first.at(name).sub(w), 0.5).add(second.at(name).sub(w), 2);
    EXPECT_LE(max_abs(both.at(name), wanted), 2e-6) << name;
    changed += max_abs(both.at(name), w) > 1e-3;
  }
  EXPECT_EQ(changed, 7 * model->decoder.blocks.size() + 1);
  EXPECT_TRUE(same_bits(first.at("lm_head.weight"), sets[0].params.back()->value.detach()));
}

}  // namespace
}  // namespace ft
